"""``python -m pipeline replay=<run id>``: does a recorded run give the same figures again, to the bit?

The recorded configuration runs as it was resolved then, on as many threads, with nothing taken from the
store, and what it gives is compared with what was recorded. Only where it is recorded, what is kept,
``threads`` where they are given, and ``trust`` follow the command line: a record may come from anywhere, and
runs no code but the pipeline's own and that of the packages that ``trust`` lists.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.configuration.builder import Builder
from pipeline.configuration.recorded import read_record
from pipeline.console import Console
from pipeline.environment import environment, launched
from pipeline.errors import ConfigError, PipelineError
from pipeline.joining import follows
from pipeline.session import THREADS_MATTER, execute, threads_of
from pipeline.tracking.base import Archive, Record

_TIMING = re.compile(r"(^|[/_])(cached|m?seconds|per_second|latency|ms|us)(_|/|$)|^(system|speed)/")
"""Metrics of the machine and the moment rather than of the computation."""

_OF_THE_RUN = ("sweep", "fingerprint", "error", "resumes")
"""Tags that do not describe the run's configuration."""


def replay(cfg: DictConfig) -> None:
    """Run ``cfg.replay`` again, and say whether the figures are the same.

    Raises:
        PipelineError: they differ, or the run cannot be had.
    """
    builder = Builder(cfg)
    tracking = builder.build("tracking")
    builder.raise_problems()
    if not isinstance(tracking, Archive):
        raise ConfigError("replay: needs the tracker that has the run: tracking=mlflow or tracking=server")
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        record = tracking.fetch(cfg.replay, Path(folder))
        file = Path(folder) / ".hydra" / "config.yaml"
        settings: Any = read_record(file, cfg.replay, tuple(cfg.trust))
        given = {"tracking": cfg.tracking, "trust": cfg.trust}
        again = OmegaConf.create({**settings, "objectives": [], "replay": None, **given})
        again.store = {"path": f"{folder}/store"}
        check_as_many(record)
        recorded = record.tags.get("threads", "")
        again.threads = cfg.threads or (int(recorded) if recorded.isdecimal() else again.get("threads"))
        _say_threads(record, threads_of(again), Console())
        metrics = execute(again, tags=_tags(record), code=tuple(cfg.trust))
        facts = environment() | {"threads": str(threads_of(again))}
    if not follows():
        _compare(record, metrics, facts, Console())


def check_as_many(record: Record) -> None:
    """Raise `ConfigError` where as many processes as the run had are not there: its sums depend on it."""
    place = launched()
    there, recorded = 1 if place is None else place.size, record.tags.get("ranks", "1")
    if str(there) != recorded:
        several = f"torchrun --nproc-per-node={recorded} -m pipeline replay={record.run_id}"
        raise ConfigError(
            f"replay={record.run_id}: the run was computed by {recorded} processes, and here are {there}, "
            f"which divide its sums otherwise. Remedy: {'no torchrun' if recorded == '1' else several}"
        )


def differences(
    before: Mapping[str, float], after: Mapping[str, float]
) -> dict[str, tuple[float, float | None]]:
    """The metrics of `before` that are not the same double in `after`, None where it lacks them.

    Timing is left out, and so is what only `after` has: the course of a training that was cached before.
    """
    pairs = {name: (value, after.get(name)) for name, value in sorted(before.items()) if not _timing(name)}
    return {name: pair for name, pair in pairs.items() if not _same(*pair)}


def _timing(name: str) -> bool:
    return _TIMING.search(name) is not None


def _same(a: float, b: float | None) -> bool:
    return b is not None and (a == b or (math.isnan(a) and math.isnan(b)))


def _tags(record: Record) -> dict[str, str]:
    """The record's group choices and overrides, which the command line of a replay does not repeat."""
    facts = {*environment(), "threads", THREADS_MATTER}
    kept = {
        name: value
        for name, value in record.tags.items()
        if name not in facts and name not in _OF_THE_RUN and not name.startswith(("mlflow.", "resumed/"))
    }
    return {**kept, "replay_of": record.run_id}


def _compare(
    record: Record, metrics: Mapping[str, float], facts: Mapping[str, str], console: Console
) -> None:
    differing = differences(record.metrics, metrics)
    compared = [name for name in record.metrics if not _timing(name)]
    if not differing:
        console.say(f"replay of {record.run_id}: {len(compared)} figures, all the same to the bit")
        return
    rows = [(name, *map(_exact, pair)) for name, pair in differing.items()]
    console.table(f"replay of {record.run_id}", ("metric", "recorded", "now"), rows)
    matter = record.tags.get(THREADS_MATTER, "")
    because = {"threads": f" ({matter} may differ in the last bits; not with deterministic=true)"}
    because = because if matter not in ("", "none") else {}
    changed = [
        f"{name}: {record.tags[name]} → {value}{because.get(name, '')}"
        for name, value in facts.items()
        if record.tags.get(name, value) != value
    ]
    raise PipelineError(
        f"replay: {len(differing)} of {len(compared)} figures differ from run {record.run_id}; "
        f"since then changed: {'; '.join(changed) or 'nothing that is recorded of the environment'}"
    )


def _say_threads(record: Record, now: int, console: Console) -> None:
    """Before it is computed: what may come out otherwise, where the number of threads is another."""
    before, matter = record.tags.get("threads", str(now)), record.tags.get(THREADS_MATTER, "none")
    if before != str(now) and matter != "none":
        console.warn(
            f"replay on {now} threads of a run on {before}: {matter} may differ in the last bits of floats"
        )


def _exact(value: float | None) -> str:
    return "missing" if value is None else repr(value)
