"""One run, from its composed configuration to its record."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pipeline.build import Builder
from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.environment import environment
from pipeline.errors import ConfigError, PipelineError
from pipeline.runner import check_wiring, run_stages
from pipeline.schema import RunConfig
from pipeline.store import Store
from pipeline.tracking.base import Tracker, Tracking

log = logging.getLogger(__name__)

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")


def execute(cfg: DictConfig) -> dict[str, float]:
    """Build what `cfg` describes, run it, record it; returns the run's metrics.

    Everything that can be refused without computing is refused before a run is opened.

    Raises:
        PipelineError: the configuration is wrong, the tracker cannot be reached, or a stage refuses.
    """
    if cfg.threads is not None:  # libraries read these when they load, and building loads them
        os.environ.update(dict.fromkeys(THREADS, str(cfg.threads)))
    console = Console()
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    run, stages = _build(cfg)
    check_wiring(stages)
    tracker = run.tracking.open(run_dir, console)
    try:
        tracker.params(dict(flatten(cfg)))
        tracker.tags(_tags(cfg))
        store = Store(run.store.path, reuse=run.store.reuse, warn=console.warn)
        ctx = RunContext(
            run_dir=run_dir,
            seed=run.seed,
            device=run.device,
            tracker=tracker,
            store=store,
            console=console,
        )
        metrics = run_stages(stages, ctx)
        _keep(tracker, run_dir)
    except BaseException as error:
        _close(tracker, run_dir, error, console)
        raise
    else:
        tracker.finish()
    finally:
        console.say(f"run directory: {_relative(run_dir)}\nrecord: {tracker.where()}")
    return metrics


def flatten(cfg: DictConfig) -> Iterator[tuple[str, object]]:
    """Every setting once, by config path. A reference to another key is that key's to report."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, object]]:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                yield from walk(value, f"{path}.{key}" if path else str(key))
        elif not isinstance(node, str) or "${" not in node:
            yield path, node
        elif not _REFERENCE.fullmatch(node):
            yield path, OmegaConf.select(cfg, path)

    return walk(OmegaConf.to_container(cfg, resolve=False), "")


def _build(cfg: DictConfig) -> tuple[RunConfig, list[Any]]:
    builder = Builder(cfg)
    run = builder.build_as(RunConfig)
    builder.build()  # groups that no stage refers to are checked too
    builder.raise_problems()
    for line in builder.user_code:
        log.warning("user code: %s", line)
    if not isinstance(run.tracking, Tracking):
        raise ConfigError("tracking: must be an option of the group, as tracking=mlflow or tracking=none")
    return run, [stage for stage in run.stages.values() if stage is not None]


def _tags(cfg: DictConfig) -> dict[str, str]:
    hydra = HydraConfig.get()
    tags = {k: str(v) for k, v in hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    tags |= environment() | {"overrides": shlex.join(hydra.overrides.task), "seed": str(cfg.seed)}
    if hydra.mode is RunMode.MULTIRUN:
        tags["sweep"] = str(hydra.sweep.dir)  # common to all runs of the sweep
    return tags


def _keep(tracker: Tracker, run_dir: Path) -> None:
    for path in sorted(run_dir.iterdir()):
        tracker.artifact(path)


def _close(tracker: Tracker, run_dir: Path, error: BaseException, console: Console) -> None:
    """Record a failed run with what it wrote; a tracker that fails as well does not hide the error."""
    log.error("%s: %s", type(error).__name__, error)
    try:
        if isinstance(error, Exception):  # else the user wants it to stop, now
            _keep(tracker, run_dir)
        tracker.finish(error)
    except PipelineError as refusal:
        console.warn(str(refusal))


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
