"""The protocol of a stage: typed artifacts in, one typed artifact out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from pipeline.artifact import Artifact
from pipeline.context import RunContext

log = logging.getLogger(__name__)

Inputs = Mapping[type[Artifact], Any]
"""Artifacts by type: ``inputs[FloatModel]``. Loaded from the store before the stage runs."""


@runtime_checkable
class Stage(Protocol):
    """One step of the pipeline: a frozen dataclass built from configuration.

    Its fields, the source of its module and of those of its fields' components, with all that these
    import (`pipeline.store.imports`), the content of its inputs and the run's seed together determine its
    result; that is what the store's key is made of. Nothing of it is listed by hand. A field whose value
    lies outside the configuration (a data set, a weights file) offers ``fingerprint() -> str``.

    A stage on whose result the number of threads shows (a training or a forward pass, since sums of floats
    depend on their order; a measurement of time) says so by an attribute or property
    ``depends_on_threads = True``: the run's count is then part of its key, and of what its manifest says
    that it was made from.

    One that computes on the run's device says ``uses_device = True``: another kind than a CPU is then part
    of the key.

    A stage that a run of several processes (`pipeline.ranks`) computes in all of them says
    ``collective = True``; ``depends_on_ranks = True`` where their number shows in its result, and is then
    part of its key; and why it cannot work with so many in a method ``misfits_of_ranks(size)``.
    """

    name: ClassVar[str]
    """``train``, ``calibrate``, …: metrics are ``stage/<name>/seconds`` and ``stage/<name>/cached``."""

    consumes: ClassVar[tuple[type[Artifact], ...]]
    """Artifact types that an earlier stage must have produced. A stage may also name types in a class
    variable ``optional``, which it takes where an earlier stage produced them (`optional_inputs`); one that
    consumes nothing but them needs one of them."""

    produces: ClassVar[type[Artifact] | None]
    """The type it returns; None for a stage that only writes to the run directory. Two stages may
    produce the same type: the later one replaces the earlier one's for the stages after it."""

    cacheable: ClassVar[bool]
    """False for a stage that runs every time (a report)."""

    def check(self) -> None:
        """Raise `PipelineError` for anything that can be known to fail before compute starts.

        The runner calls it on all stages that will run, before the first of them does. What a stage cannot
        know without the others it says in a method ``misfits`` (see `misfits`).
        """

    def run(self, ctx: RunContext, inputs: Inputs) -> Artifact | None:
        """Do the work. What it returns is stored, and handed to later stages."""


@runtime_checkable
class Several(Protocol):
    """What stands among a run's stages for any number of them: a list that the user chose."""

    def stages(self) -> Sequence[Stage]:
        """The stages, in the order they run."""


def in_order(configured: Mapping[str, Any]) -> list[Any]:
    """A run's stages by name, as configuration has them, in the order they run: null is none of them.

    A stage that says ``instead = True`` takes the place of those after it, up to the last that produces what
    it produces: they would only make what is there already. The log says which.
    """
    several = (one.stages() if isinstance(one, Several) else [one] for one in configured.values())
    stages = [stage for group in several for stage in group if stage is not None]
    for first in [stage for stage in stages if getattr(stage, "instead", False)]:
        place = next(i for i, stage in enumerate(stages) if stage is first)
        last = max(i for i, stage in enumerate(stages) if _produced(stage) is _produced(first))
        if left_out := [getattr(stage, "name", "?") for stage in stages[place + 1 : last + 1]]:
            log.info("stage %s takes the place of %s", first.name, ", ".join(left_out))
        del stages[place + 1 : last + 1]
    return stages


def _produced(stage: Any) -> object:
    return getattr(stage, "produces", None)


def misfits(stage: Stage, stages: Sequence[Stage]) -> tuple[str, ...]:
    """Why `stage` cannot work among the `stages` of its run, from configuration alone; each with its remedy.

    A stage that has such reasons gives them by a method ``misfits(stages) -> Iterable[str]``.
    """
    own: Callable[[Sequence[Stage]], Iterable[str]] | None = getattr(stage, "misfits", None)
    return () if own is None else tuple(own(stages))


def optional_inputs(stage: Stage) -> tuple[type[Artifact], ...]:
    """The artifact types that `stage` takes where they are there: ``inputs.get(Parity)``."""
    declared: tuple[type[Artifact], ...] = getattr(stage, "optional", ())
    return declared


def collective(stage: Stage) -> bool:
    """Whether all ranks of a run compute `stage` together; rank 0 alone computes the others."""
    return bool(getattr(stage, "collective", False))


def misfits_of_ranks(stages: Iterable[Stage], size: int) -> Iterator[str]:
    """Why collective stages cannot work on `size` ranks, each with its remedy."""
    for stage in stages:
        own: Callable[[int], Iterable[str]] | None = getattr(stage, "misfits_of_ranks", None)
        if own is not None and collective(stage):
            yield from (f"stage '{stage.name}': {reason}" for reason in own(size))
