"""Runs stages in order, over the store: checks everything first, computes only what is not stored.

A stage's artifact is found by its key (see `pipeline.store.keys`), which needs the content hashes of its
inputs but not the inputs themselves: a run whose every stage is stored loads nothing but what has metrics or
files to show.

Of several processes (`pipeline.ranks`) rank 0 does all of that, and says at each stage what it did; those
that follow take part in what all compute.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from pipeline.artifact import Artifact, ServedModel
from pipeline.context import RunContext
from pipeline.errors import ConfigError, PipelineError
from pipeline.produced import COMPUTE, Produced
from pipeline.stage import Stage, misfits, misfits_of_ranks, optional_inputs
from pipeline.tracking.record import RecordingTracker
from pipeline.wheel import write_wheel

METRICS = "metrics.json"
"""A run's figures, flat name to number, in its directory."""


@runtime_checkable
class HasMetrics(Protocol):
    """An artifact that holds numbers worth recording. The runner logs them, computed or cached alike."""

    def metrics(self) -> Mapping[str, float]:
        """Flat name to number: ``{"train/loss": 0.02}``; what is not finite is left out of all records."""


@runtime_checkable
class HasFiles(Protocol):
    """An artifact with files for who looks at the run. The runner writes them, computed or cached alike."""

    def write_files(self, run_dir: Path) -> None:
        """Write them to the run directory, whence the tracker copies them."""


@runtime_checkable
class Servable(Protocol):
    """An artifact that can answer requests. The runner has it logged as a model when all stages are done."""

    def served(self, run_dir: Path) -> ServedModel:
        """How to load it, from files that `HasFiles.write_files` wrote."""


def check_wiring(stages: Sequence[object]) -> None:
    """Raise `ConfigError` with every reason why `stages` cannot run in this order."""
    problems: list[str] = []
    produced: set[type[Artifact]] = set()
    names: set[str] = set()
    for index, stage in enumerate(stages):
        if not isinstance(stage, Stage):
            lacking = [name for name in _STAGE_MEMBERS if not hasattr(stage, name)]
            problems.append(f"stage {index}: {type(stage).__name__} is not a stage; it lacks {lacking}")
            continue
        if stage.name in names:
            problems.append(f"stage '{stage.name}' is there twice; remove one, or give it another name")
        names.add(stage.name)
        for kind in stage.consumes:
            if kind not in produced:
                later = [s.name for s in stages[index:] if isinstance(s, Stage) and s.produces is kind]
                remedy = f"move '{later[0]}' before it" if later else "add a stage that produces it"
                have = ", ".join(sorted(t.__name__ for t in produced)) or "nothing"
                problems.append(
                    f"stage '{stage.name}' consumes {kind.__name__}, which no stage before it produces "
                    f"(they produce {have}); {remedy}"
                )
        problems += _optional_problems(stage, produced, stages[index:])
        if stage.produces is not None:
            produced.add(stage.produces)
    known = [stage for stage in stages if isinstance(stage, Stage)]
    problems += (f"stage '{stage.name}': {reason}" for stage in known for reason in misfits(stage, known))
    if problems:
        raise ConfigError("\n  ".join(["the stages do not fit together:", *problems]))


def check_ranks(stages: Sequence[Stage], size: int) -> None:
    """Raise `ConfigError` with every reason why `size` ranks cannot compute `stages`."""
    if reasons := list(misfits_of_ranks(stages, size)):
        raise ConfigError("\n  ".join([f"the stages do not fit {size} ranks:", *reasons]))


def _optional_problems(stage: Stage, produced: set[type[Artifact]], later: Sequence[object]) -> Iterator[str]:
    """An input that comes too late would silently be left out; a stage with none at all has nothing to do."""
    optional = optional_inputs(stage)
    for kind in optional:
        too_late = [s.name for s in later if isinstance(s, Stage) and s.produces is kind]
        if kind not in produced and too_late:
            yield (
                f"stage '{stage.name}' takes {kind.__name__}, which '{too_late[0]}' after it produces; "
                f"move '{too_late[0]}' before it"
            )
    if optional and not stage.consumes and not produced & set(optional):
        names = ", ".join(kind.__name__ for kind in optional)
        yield f"stage '{stage.name}' needs one of {names}, and no stage before it produces any"


def run_stages(stages: Sequence[Stage], ctx: RunContext) -> dict[str, float]:
    """Run `stages`; returns the metrics, as ``<run_dir>/metrics.json`` holds them.

    Raises:
        PipelineError: the stages do not fit together, or one of them refuses.
    """
    check_wiring(stages)
    recorder = RecordingTracker(ctx.tracker)
    ctx = replace(ctx, tracker=recorder)
    artifacts = Produced(ctx, stages)
    ctx.ranks.agree(artifacts.digests())
    served: dict[type[Artifact], ServedModel] = {}
    checked = False
    for index, stage in enumerate(stages):
        start = time.perf_counter()
        if artifacts.find(stage):
            cached = True
        else:
            if not checked:
                for remaining in reversed(
                    stages[index:]
                ):  # the first ones' take longest: they trace the network
                    remaining.check()
                checked = True
            cached = artifacts.compute(stage)
        ctx.ranks.agree(artifacts.found(stage))
        seconds = time.perf_counter() - start
        recorder.metrics(
            {f"stage/{stage.name}/seconds": seconds, f"stage/{stage.name}/cached": float(cached)}
        )
        if stage.produces is not None and issubclass(stage.produces, HasMetrics):
            recorder.metrics(artifacts[stage.produces].metrics())
        if stage.produces is not None and issubclass(stage.produces, HasFiles):
            artifacts[stage.produces].write_files(ctx.run_dir)
        if stage.produces is not None and issubclass(stage.produces, Servable):
            served[stage.produces] = artifacts[stage.produces].served(ctx.run_dir)
        write_metrics(ctx.run_dir, recorder.latest)
        ctx.console.stage(stage.name, cached=cached, seconds=seconds)
        artifacts.keep(
            {kind for later in stages[index + 1 :] for kind in (*later.consumes, *optional_inputs(later))}
        )
    for model in served.values():  # once no stage has refused
        wheel = write_wheel([model.loader_module], model.requirements, ctx.run_dir / "serving")
        recorder.model(replace(model, code=(wheel,)))
    return dict(recorder.latest)


def follow_stages(stages: Sequence[Stage], ctx: RunContext) -> None:
    """Take part in rank 0's `run_stages`, as another rank: computes what all compute, and writes nothing.

    Raises:
        PipelineError: a stage refuses, or this rank has another configuration, code, data or store.
        RankLostError: another rank has ended.
    """
    artifacts = Produced(ctx, stages)
    own, leading = artifacts.digests(), ctx.ranks.agree()
    if differing := [name for name in leading | own if leading.get(name) != own.get(name)]:
        raise PipelineError(
            f"rank {ctx.ranks.rank} would compute {', '.join(differing)} otherwise than rank 0: its "
            "configuration, code, libraries, threads or data differ. Remedy: the same of all on every machine"
        )
    for index, stage in enumerate(stages):
        while (told := ctx.ranks.agree()) == COMPUTE:
            artifacts.take_part(stage)
        if told is not None:
            artifacts.take(stage, told)
        artifacts.keep(
            {kind for later in stages[index + 1 :] for kind in (*later.consumes, *optional_inputs(later))}
        )


_STAGE_MEMBERS = ("name", "consumes", "produces", "cacheable", "check", "run")


def write_metrics(run_dir: Path, values: Mapping[str, float]) -> None:
    """Write ``metrics.json``, in one step.

    Raises:
        ValueError: a value is not finite.
    """
    temporary = (run_dir / METRICS).with_suffix(".tmp")
    text = json.dumps(dict(values), indent=2, sort_keys=True, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(run_dir / METRICS)
