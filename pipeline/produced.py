"""The artifacts of a run: found in the store or computed, and once more where an entry is damaged in use.

An entry is verified when it is found, and again when it is loaded, which may be much later. Where it has been
deleted, cut or changed in between, the stage that made it runs again on the inputs it had.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.artifact import Artifact, ArtifactRef, Figures
from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.ranks import Alone
from pipeline.seed import derive_seed, seed_everything
from pipeline.stage import Stage, collective, optional_inputs
from pipeline.store.keys import identity, key_of
from pipeline.tracking.record import RecordingTracker

log = logging.getLogger(__name__)

COMPUTE = "compute"
"""What rank 0 says before all compute a stage; after each stage it says which artifact that has, if any."""


@dataclass(frozen=True, kw_only=True)
class MadeFrom:
    """How an artifact came to be: its stage, the key's ingredients, and the stage's inputs as they were."""

    stage: Stage
    ingredients: Mapping[str, Any]
    inputs: Mapping[type[Artifact], ArtifactRef]


class Produced(Mapping[type[Artifact], Any]):
    """The artifacts so far, by type; loaded from the store when first asked for.

    Args:
        ctx: the run.
        stages: all of them: one that cannot be described is refused here, before any runs.
    """

    def __init__(self, ctx: RunContext, stages: Sequence[Stage]) -> None:
        self._ctx = ctx
        self._identities = {
            stage.name: identity(stage, ctx.threads, ctx.ranks.size, ctx.device)
            for stage in stages
            if stage.produces is not None
        }
        self._refs: dict[type[Artifact], ArtifactRef] = {}
        self._loaded: dict[type[Artifact], Any] = {}
        self._made: dict[Path, MadeFrom] = {}

    def __getitem__(self, kind: type[Artifact]) -> Any:
        if kind not in self._loaded:
            self._loaded[kind] = self._load(kind, self._refs[kind])
        return self._loaded[kind]

    def __contains__(self, kind: object) -> bool:
        return kind in self._refs  # without loading it

    def __iter__(self) -> Iterator[type[Artifact]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

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
        self._run(stage, self._inputs(stage))

    def find(self, stage: Stage) -> bool:
        """Take a stage's artifact from the store, and record its figures; False where it must be computed."""
        if stage.produces is None or not stage.cacheable:
            return False
        made = self._how(stage)
        ref = self._ctx.store.find(stage.produces.kind, key_of(made.ingredients))
        if ref is None:
            return False
        self._take(stage.produces, ref, made)
        self._loaded.pop(stage.produces, None)
        for step, values in ref.figures:
            self._ctx.tracker.metrics(values, step)
        return True

    def compute(self, stage: Stage) -> bool:
        """Run a stage and store its artifact. True where another process did so in the meantime."""
        if stage.produces is None:
            self._run(stage, self._inputs(stage))
            return False
        made = self._how(stage)
        with self._ctx.store.lock(stage.produces.kind, key_of(made.ingredients)):
            if self.find(stage):
                return True
            artifact, ref = self._make(made, self._inputs(stage))
        self._take(stage.produces, ref, made)
        self._loaded[stage.produces] = artifact
        return False

    def keep(self, kinds: set[type[Artifact]]) -> None:
        """Let go of the artifacts in memory that no later stage consumes."""
        self._loaded = {kind: artifact for kind, artifact in self._loaded.items() if kind in kinds}

    def _take(self, kind: type[Artifact], ref: ArtifactRef, made: MadeFrom) -> None:
        self._refs[kind] = ref
        self._made[ref.path] = made

    def _how(self, stage: Stage) -> MadeFrom:
        kinds = (*stage.consumes, *(kind for kind in optional_inputs(stage) if kind in self._refs))
        inputs = {kind: self._refs[kind] for kind in kinds}
        hashes = {kind.kind: ref.sha256 for kind, ref in inputs.items()}
        ingredients = {**self._identities[stage.name], "inputs": hashes, "seed": self._ctx.seed}
        return MadeFrom(stage=stage, ingredients=ingredients, inputs=inputs)

    def _inputs(self, stage: Stage) -> dict[type[Artifact], Any]:
        """Load a stage's inputs, before it starts: one that has to be made again draws random numbers."""
        return {kind: self[kind] for kind in (*stage.consumes, *optional_inputs(stage)) if kind in self._refs}

    def _make(self, made: MadeFrom, inputs: Mapping[type[Artifact], Any]) -> tuple[Artifact, ArtifactRef]:
        """Run a stage and store what it returns. Call within the entry's lock."""
        stage, kind = made.stage, made.stage.produces
        if kind is None:
            raise ValueError(f"stage '{stage.name}' produces nothing")
        key = key_of(made.ingredients)
        start = time.perf_counter()
        # a training goes on from its checkpoint on another number of ranks too
        whatever_ranks = {name: value for name, value in made.ingredients.items() if name != "ranks"}
        scratch = self._ctx.store.scratch(kind.kind, key_of(whatever_ranks))
        if collective(stage):
            self._ctx.ranks.agree(COMPUTE)
        artifact, figures = self._run(stage, inputs, scratch)
        if not isinstance(artifact, kind):
            raise PipelineError(
                f"stage '{stage.name}' returned {type(artifact).__name__}; "
                f"it declares that it produces {kind.__name__}"
            )
        seconds = time.perf_counter() - start
        ref = self._ctx.store.save(
            kind.kind, key, artifact, made_from=made.ingredients, seconds=seconds, figures=figures
        )
        shutil.rmtree(scratch, ignore_errors=True)
        return artifact, ref

    def _run(
        self, stage: Stage, inputs: Mapping[type[Artifact], Any], scratch: Path = Path()
    ) -> tuple[Artifact | None, Figures]:
        # its own seed: what ran or did not run before it makes no difference
        seed_everything(derive_seed(self._ctx.seed, stage.name))
        log.info("stage %s: running", stage.name)
        recorder = RecordingTracker(self._ctx.tracker)
        # what one rank computes alone talks to none: the others wait elsewhere
        ranks = self._ctx.ranks if collective(stage) else Alone()
        ctx = replace(self._ctx, scratch=scratch, tracker=recorder, ranks=ranks)
        artifact = stage.run(ctx, _Declared(inputs, stage))
        return artifact, tuple(recorder.history)

    def _load(self, kind: type[Artifact], ref: ArtifactRef) -> Any:
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(self._ctx.store.opened(self._seen(ref)))
            except PipelineError:
                raise
            except ValueError as damage:
                return self._make_again(kind, ref, damage)
            return kind.load(folder)

    def _seen(self, ref: ArtifactRef) -> ArtifactRef:
        """The entry as this rank finds it: one that follows has rank 0's word for it alone."""
        if not self._ctx.ranks.rank:
            return ref
        own = self._ctx.store.find(ref.kind, ref.path.name)
        if own is None or own.sha256 != ref.sha256:
            raise PipelineError(
                f"rank {self._ctx.ranks.rank} does not find {ref.path}, which rank 0 has stored. Remedy: a "
                "store.path that all machines share, as a folder of a common file system, or an address"
            )
        return own

    def _make_again(self, kind: type[Artifact], ref: ArtifactRef, damage: ValueError) -> Any:
        """Run the stage of a damaged entry on the inputs it had, which may have to be made again too."""
        made = self._made.get(ref.path)
        if made is None or (collective(made.stage) and self._ctx.ranks.size > 1):  # the others wait elsewhere
            raise PipelineError(
                f"stored {kind.kind} was damaged while in use by several ranks: {damage}. Remedy: the same "
                "command again, which computes it anew"
            )
        self._ctx.console.warn(f"stored {kind.kind} was damaged while in use and is computed again: {damage}")
        made.stage.check()
        inputs = {
            one: self._loaded[one]
            if self._refs.get(one) == source and one in self._loaded
            else self._load(one, source)
            for one, source in made.inputs.items()
        }
        with self._ctx.store.lock(kind.kind, key_of(made.ingredients)):
            artifact, again = self._make(made, inputs)
        if again.sha256 != ref.sha256:
            raise PipelineError(
                f"stored {kind.kind} was damaged while in use ({damage}), and stage '{made.stage.name}' now "
                "gives another: what was made from it does not fit. Remedy: the same command again, which "
                "takes the new one"
            )
        return artifact


class _Declared(Mapping[type[Artifact], Any]):
    """A stage's inputs: what it declares and nothing else, since its key covers nothing else.

    An optional one that no stage produced is missing, as of any mapping.
    """

    def __init__(self, inputs: Mapping[type[Artifact], Any], stage: Stage) -> None:
        self._inputs = inputs
        self._name = stage.name
        self._declared = (*stage.consumes, *optional_inputs(stage))

    def __getitem__(self, kind: type[Artifact]) -> Any:
        if kind not in self._declared:
            raise PipelineError(
                f"stage '{self._name}' asks for {kind.__name__}; add it to the stage's `consumes` "
                "or `optional`"
            )
        return self._inputs[kind]

    def __iter__(self) -> Iterator[type[Artifact]]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)
