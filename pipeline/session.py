"""One run, from its composed configuration to its record."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from threadpoolctl import threadpool_limits

from pipeline.configuration.builder import Builder
from pipeline.configuration.folders import check_run_folder, check_working_folder
from pipeline.configuration.schema import RunConfig
from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.described import added_keys, choices, chosen, flatten, relative, tags_of
from pipeline.environment import default_threads, is_busy
from pipeline.errors import ConfigError, PipelineError
from pipeline.joining import check_no_sweep, joined
from pipeline.place import CONF
from pipeline.ranks import Ranks
from pipeline.run_folder import LOCK, occupied
from pipeline.runner import METRICS, check_ranks, check_wiring, follow_stages, run_stages, write_metrics
from pipeline.seed import deterministic
from pipeline.stage import Stage, in_order
from pipeline.store.remote import open_store
from pipeline.sweeps.jobs import changed_settings, current, job_fingerprint, threads_per_job
from pipeline.tracking.base import FINGERPRINT, Job, Record, SettlesRuns, SweepTracking, Tracker, Tracking
from pipeline.tracking.journal import JOURNALS
from pipeline.tracking.null import Null
from pipeline.tracking.record import finite

log = logging.getLogger(__name__)

THREADS_MATTER = "threads_matter"
"""The tag that names the stages whose results depend on the number of threads."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GIVEN = os.environ.get(THREADS[0], "")
"""What the user's shell says, before a run says otherwise."""


def execute(
    cfg: DictConfig, *, tags: Mapping[str, str] | None = None, code: Collection[str] | None = None
) -> dict[str, float]:
    """Build what `cfg` describes, run it, record it; returns the run's metrics.

    Everything that can be refused without computing is refused before a run is opened. In a sweep, a job
    that is recorded as finished is left out, and one that is recorded as begun goes on.

    Args:
        cfg: the resolved configuration, without Hydra's own.
        tags: recorded beside those that describe the run, and before them where names coincide.
        code: packages beside the pipeline's own that `cfg` may name; None for any, where the user wrote it.

    Raises:
        PipelineError: the configuration is wrong, the tracker cannot be reached, or a stage refuses.
    """
    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    check_working_folder(hydra.job.chdir)
    check_run_folder(cfg, run_dir, "hydra.run.dir" if hydra.mode is RunMode.RUN else "hydra.sweep.dir")
    threads = threads_of(cfg)
    # libraries read these variables when they load, which is when the stages are built
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    if is_busy():  # threads that spin keep those that they wait for from running
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console = Console()
    run, stages = _build(cfg, code)
    check_wiring(stages)
    check_no_sweep(hydra.mode is RunMode.MULTIRUN)
    ctx = RunContext(
        run_dir=run_dir,
        seed=run.seed,
        device=run.device,
        tracker=Null(),
        store=open_store(run.store, warn=console.warn),
        console=console,
        threads=threads,
    )
    facts = {"threads": str(threads), THREADS_MATTER: _threads_matter(run, stages)}
    tags = {**tags_of(cfg), **facts, **(tags or {})}
    with deterministic(run.deterministic), joined(run.ranks) as ranks:
        ctx = replace(ctx, ranks=ranks, device=ranks.device(run.device))
        check_ranks(stages, ranks.size)
        path = run.store.path if "://" in run.store.path else str(Path(run.store.path).absolute())
        path = ranks.agree(path)
        if ranks.rank:
            return _follow(run, stages, ctx, path)
        if ranks.size > 1:
            tags["ranks"] = str(ranks.size)
        return _lead(run, stages, ctx, cfg, tags)


def _lead(
    run: RunConfig, stages: Sequence[Stage], ctx: RunContext, cfg: DictConfig, tags: Mapping[str, str]
) -> dict[str, float]:
    """Run the stages, and record the run: in its place in a sweep, where it belongs to one."""
    hydra, console, store = HydraConfig.get(), ctx.console, ctx.store
    run_dir, threads = ctx.run_dir, ctx.threads
    fingerprint = job_fingerprint(cfg, stages, threads)
    tags = {FINGERPRINT: fingerprint, **tags}
    sweep = current()
    if sweep is None or not isinstance(run.tracking, SweepTracking):
        with occupied(run_dir):
            tags |= _settle(run.tracking, run_dir, console, fingerprint)
            changed = changed_settings(hydra.overrides.task, choices())
            return _record(stages, ctx, run.tracking.open(run_dir, console, chosen(), changed), cfg, tags)
    name = sweep.job_name(hydra.job.num, hydra.overrides.task, choices())
    job = Job(sweep=sweep.record, fingerprint=fingerprint, name=name)
    with store.lock("run", job.fingerprint), occupied(run_dir):
        _settle(run.tracking, run_dir, console, fingerprint)
        record = run.tracking.recorded(job)
        if record is not None and record.finished:
            console.say(f"done before, in run {record.run_id} (sweep.resume=false does it again)")
            if not (run_dir / METRICS).exists():  # the sweep writes to another folder than before
                write_metrics(run_dir, finite(record.metrics))
            return dict(record.metrics)
        return _record(stages, ctx, run.tracking.open_job(run_dir, console, job, record), cfg, tags)


def _follow(run: RunConfig, stages: Sequence[Stage], ctx: RunContext, path: str) -> dict[str, float]:
    """Take part as another rank than the first: quietly, and with no record; there are no figures.

    Args:
        run: its settings.
        stages: in order.
        ctx: as of the first.
        path: of the first rank's store.
    """
    console = Console(quiet=True, prefix=f"rank {ctx.ranks.rank}: ")
    # what rank 0 has just stored is to be found, where all is computed anew too
    store = open_store(replace(run.store, path=path, reuse=True), warn=console.warn)
    with _blamed(ctx.ranks), threadpool_limits(ctx.threads):
        follow_stages(stages, replace(ctx, console=console, store=store))
    return {}


@contextmanager
def _blamed(ranks: Ranks) -> Iterator[None]:
    """Raise another rank's failure in the place of what came of it here."""
    try:
        yield
    except BaseException as error:
        cause = ranks.blame(error)
        if cause is error:
            raise
        raise cause from error


def _settle(tracking: object, run_dir: Path, console: Console, fingerprint: str) -> dict[str, str]:
    """Complete the records of earlier runs; the tag that links this one to the one that it goes on from."""
    if not isinstance(tracking, SettlesRuns):
        return {}
    killed = [record.run_id for record in tracking.settle(run_dir, console) if _same(record, fingerprint)]
    if not killed:
        return {}
    console.say(f"run {killed[-1]} was killed, and is recorded so; this one goes on from what it stored")
    return {"resumes": killed[-1]}


def _same(record: Record, fingerprint: str) -> bool:
    return record.tags.get(FINGERPRINT) == fingerprint


def _record(
    stages: Sequence[Stage], ctx: RunContext, tracker: Tracker, cfg: DictConfig, tags: Mapping[str, str]
) -> dict[str, float]:
    """Run the stages with an open tracker, and close it."""
    try:
        tracker.tags(tags)  # first: they say whose run it is, should it be killed
        tracker.params(chosen() | dict(flatten(cfg)))  # MLflow plots parameters, not tags
        # where a run before this one loaded the libraries
        with _blamed(ctx.ranks), threadpool_limits(ctx.threads):
            metrics = run_stages(stages, replace(ctx, tracker=tracker))
        _keep(tracker, ctx.run_dir)
    except BaseException as error:
        _close(tracker, ctx.run_dir, error, ctx.console)
        raise
    else:
        tracker.finish()
    finally:
        ctx.console.say(f"run directory: {relative(ctx.run_dir)}\nrecord: {tracker.where()}")
    return metrics


def threads_of(cfg: DictConfig) -> int:
    """How many threads the numeric libraries use in a run of `cfg`, the same whatever ran before it.

    One, where the run is deterministic. Else ``threads``; where that is null, the job's share of the cores in
    a sweep that runs jobs at once, else ``OMP_NUM_THREADS`` as the shell gives it, else all cores that the
    process may use, at most 8.
    """
    if cfg.get("deterministic"):  # a record of an earlier version says nothing of it
        return 1
    hydra = HydraConfig.get()
    threads: int | None = cfg.threads
    if threads is None and hydra.mode is RunMode.MULTIRUN:
        threads = threads_per_job(hydra.launcher)
    if threads is None and _GIVEN.isdecimal():
        threads = int(_GIVEN)
    return threads or default_threads()


def _threads_matter(run: RunConfig, stages: Sequence[Stage]) -> str:
    """The stages that sum floats in an order which threads decide, as text; none in a deterministic run."""
    if run.deterministic:
        return "none"
    names = [stage.name for stage in stages if getattr(stage, "depends_on_threads", False)]
    return ", ".join(names) or "none"


def _build(cfg: DictConfig, code: Collection[str] | None) -> tuple[RunConfig, list[Any]]:
    builder = Builder(cfg, code=code)
    run = builder.build_as(RunConfig)
    builder.build()  # groups that no stage refers to are checked too
    builder.refuse_unused(
        added_keys(), {*(field.name for field in fields(RunConfig)), *choices(), *_packaged_keys()}
    )
    builder.raise_problems()
    for line in builder.user_code:
        log.warning("user code: %s", line)
    if not isinstance(run.tracking, Tracking):
        raise ConfigError("tracking: must be an option of the group, as tracking=mlflow or tracking=none")
    return run, in_order(run.stages)


@cache
def _packaged_keys() -> frozenset[str]:
    """What the pipeline's own configuration has at its root: commands beside the run have settings there."""
    return frozenset(str(key) for key in OmegaConf.load(CONF / "config.yaml"))


def _keep(tracker: Tracker, run_dir: Path) -> None:
    """Record all files of the run's folder, but folders in which other runs lie."""
    for path in sorted(run_dir.iterdir()):
        if path.name == LOCK or fnmatch(path.name, JOURNALS):
            continue
        if next(path.rglob(".hydra"), None) is None:
            tracker.artifact(path)
        else:
            log.warning("not recorded: %s, in which other runs lie", path)


def _close(tracker: Tracker, run_dir: Path, error: BaseException, console: Console) -> None:
    """Record a failed run with what it wrote; a tracker that fails as well does not hide the error."""
    log.error("%s: %s", type(error).__name__, error)
    try:
        if isinstance(error, Exception):  # else the user wants it to stop, now
            _keep(tracker, run_dir)
        tracker.finish(error)
    except PipelineError as refusal:
        console.warn(str(refusal))
