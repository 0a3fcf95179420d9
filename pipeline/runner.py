"""Runs stages in order, over the store: checks everything first, computes only what is not stored.

A stage's artifact is found by its key (see `pipeline.store.keys`), which needs the content hashes of its
inputs but not the inputs themselves: a run whose every stage is stored loads nothing but what has metrics or
files to show.

Of several processes (`pipeline.ranks`) rank 0 does all of that, and says at each stage what it did; those
that follow take part in what all compute.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pipeline.artifact import Artifact, ArtifactRef, ServedModel
from pipeline.context import RunContext
from pipeline.errors import ConfigError, PipelineError
from pipeline.seed import derive_seed, seed_everything
from pipeline.stage import Stage, collective, misfits, misfits_of_ranks, optional_inputs
from pipeline.store.keys import identity, key_of
from pipeline.tracking.record import RecordingTracker

log = logging.getLogger(__name__)

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
    artifacts = _Artifacts(ctx, stages)
    ctx.ranks.agree(artifacts.digests())
    served: dict[type[Artifact], ServedModel] = {}
    checked = False
    for index, stage in enumerate(stages):
        start = time.perf_counter()
        if artifacts.find(stage):
            cached = True
        else:
            if not checked:
                for remaining in stages[index:]:
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
        recorder.model(model)
    return dict(recorder.latest)


def follow_stages(stages: Sequence[Stage], ctx: RunContext) -> None:
    """Take part in rank 0's `run_stages`, as another rank: computes what all compute, and writes nothing.

    Raises:
        PipelineError: a stage refuses, or this rank has another configuration, code, data or store.
        RankLostError: another rank has ended.
    """
    artifacts = _Artifacts(ctx, stages)
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


COMPUTE = "compute"
"""What rank 0 says before all compute a stage; after each stage it says which artifact that has, if any."""


class _Artifacts(Mapping[type[Artifact], Any]):
    """The artifacts so far, by type; loaded from the store when first asked for."""

    def __init__(self, ctx: RunContext, stages: Sequence[Stage]) -> None:
        self._ctx = ctx
        # of all stages, before any of them runs: one that cannot be described is refused here
        self._identities = {
            stage.name: identity(stage, ctx.threads, ctx.ranks.size, ctx.device)
            for stage in stages
            if stage.produces is not None
        }
        self._refs: dict[type[Artifact], ArtifactRef] = {}
        self._loaded: dict[type[Artifact], Any] = {}

    def __getitem__(self, kind: type[Artifact]) -> Any:
        if kind not in self._loaded:
            self._loaded[kind] = kind.load(self._path(self._refs[kind]))
        return self._loaded[kind]

    def _path(self, ref: ArtifactRef) -> Path:
        """Where the artifact lies for this rank: one that follows has seen rank 0's word for it alone."""
        if not self._ctx.ranks.rank:
            return ref.path
        own = self._ctx.store.find(ref.kind, ref.path.name)
        if own is None or own.sha256 != ref.sha256:
            raise PipelineError(
                f"rank {self._ctx.ranks.rank} does not find {ref.path}, which rank 0 has stored. Remedy: a "
                "store.path that all machines share, as a folder of a common file system, or an address"
            )
        return own.path

    def digests(self) -> dict[str, str]:
        """A hash of what each stage's key is made of, but for its inputs and seed."""
        return {name: key_of(ingredients) for name, ingredients in self._identities.items()}

    def found(self, stage: Stage) -> dict[str, str] | None:
        """What identifies the artifact that a stage has left, as JSON; None where it leaves none."""
        if stage.produces is None:
            return None
        ref = self._refs[stage.produces]
        return {"sha256": ref.sha256, "path": str(ref.path)}

    def take(self, stage: Stage, told: Mapping[str, str]) -> None:
        """Rely on the artifact that rank 0 has `found`."""
        kind = stage.produces
        if kind is not None:
            self._refs[kind] = ArtifactRef(kind=kind.kind, sha256=told["sha256"], path=Path(told["path"]))
            self._loaded.pop(kind, None)

    def take_part(self, stage: Stage) -> None:
        """Run a collective stage; what it gives is rank 0's to store."""
        self._run(stage)

    def __contains__(self, kind: object) -> bool:
        return kind in self._refs  # without loading it

    def __iter__(self) -> Iterator[type[Artifact]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def find(self, stage: Stage) -> bool:
        """Take a stage's artifact from the store; False where it has to be computed."""
        if stage.produces is None or not stage.cacheable:
            return False
        ref = self._ctx.store.find(stage.produces.kind, key_of(self._made_from(stage)))
        if ref is None:
            return False
        self._refs[stage.produces] = ref
        self._loaded.pop(stage.produces, None)
        return True

    def compute(self, stage: Stage) -> bool:
        """Run a stage and store its artifact. True where another process did so in the meantime."""
        if stage.produces is None:
            self._run(stage)
            return False
        ingredients = self._made_from(stage)
        kind, key = stage.produces.kind, key_of(ingredients)
        with self._ctx.store.lock(kind, key):
            if self.find(stage):
                return True
            start = time.perf_counter()
            # a training goes on from its checkpoint on another number of ranks too
            scratch = self._ctx.store.scratch(
                kind, key_of({name: value for name, value in ingredients.items() if name != "ranks"})
            )
            if collective(stage):
                self._ctx.ranks.agree(COMPUTE)
            artifact = self._run(stage, scratch)
            if not isinstance(artifact, stage.produces):
                raise PipelineError(
                    f"stage '{stage.name}' returned {type(artifact).__name__}; "
                    f"it declares that it produces {stage.produces.__name__}"
                )
            seconds = time.perf_counter() - start
            self._refs[stage.produces] = self._ctx.store.save(
                kind, key, artifact, made_from=ingredients, seconds=seconds
            )
            self._loaded[stage.produces] = artifact
            shutil.rmtree(scratch, ignore_errors=True)
        return False

    def keep(self, kinds: set[type[Artifact]]) -> None:
        """Let go of the artifacts in memory that no later stage consumes."""
        self._loaded = {kind: artifact for kind, artifact in self._loaded.items() if kind in kinds}

    def _run(self, stage: Stage, scratch: Path = Path()) -> Artifact | None:
        # its own seed: what ran or did not run before it makes no difference
        seed_everything(derive_seed(self._ctx.seed, stage.name))
        log.info("stage %s: running", stage.name)
        return stage.run(replace(self._ctx, scratch=scratch), _Declared(self, stage))

    def _made_from(self, stage: Stage) -> dict[str, Any]:
        taken = (*stage.consumes, *(kind for kind in optional_inputs(stage) if kind in self._refs))
        inputs = {kind.kind: self._refs[kind].sha256 for kind in taken}
        return {**self._identities[stage.name], "inputs": inputs, "seed": self._ctx.seed}


class _Declared(Mapping[type[Artifact], Any]):
    """A stage's inputs: what it declares and nothing else, since its key covers nothing else.

    An optional one that no stage produced is missing, as of any mapping.
    """

    def __init__(self, artifacts: _Artifacts, stage: Stage) -> None:
        self._artifacts = artifacts
        self._name = stage.name
        self._declared = (*stage.consumes, *optional_inputs(stage))

    def __getitem__(self, kind: type[Artifact]) -> Any:
        if kind not in self._declared:
            raise PipelineError(
                f"stage '{self._name}' asks for {kind.__name__}; add it to the stage's `consumes` "
                "or `optional`"
            )
        return self._artifacts[kind]

    def __iter__(self) -> Iterator[type[Artifact]]:
        return (kind for kind in self._declared if kind in self._artifacts)

    def __len__(self) -> int:
        return sum(1 for _ in self)


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
