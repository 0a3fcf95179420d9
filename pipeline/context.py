"""What a stage may use of the run it is part of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.ranks import Alone, Ranks

if TYPE_CHECKING:
    from pipeline.artifact import Artifact, ArtifactRef, Figures
    from pipeline.console import Console
    from pipeline.tracking.base import Tracker


class ArtifactStore(Protocol):
    """Artifacts by kind and key, shared with other runs."""

    def find(self, kind: str, key: str) -> ArtifactRef | None:
        """The entry, verified; None where it has to be computed."""

    def lock(self, kind: str, key: str) -> AbstractContextManager[None]:
        """Hold the entry while computing it."""

    def scratch(self, kind: str, key: str) -> Path:
        """A folder for the state of a computation under way."""

    def opened(self, ref: ArtifactRef) -> AbstractContextManager[Path]:
        """A folder with the files that `ref` names, to load them from; gone after the block.

        Raises:
            ValueError: they are no longer there, or no longer the same.
        """

    def save(
        self,
        kind: str,
        key: str,
        artifact: Artifact,
        *,
        made_from: Mapping[str, Any],
        seconds: float,
        figures: Figures = (),
    ) -> ArtifactRef:
        """Keep an artifact, and what its stage recorded. Call within `lock`."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """One run: where it writes, its seed and device, and the services it shares with other runs.

    Args:
        run_dir: the run's own folder.
        seed: from which every stage derives its own.
        device: as torch names it.
        tracker: where the run is recorded.
        store: artifacts shared with other runs.
        console: what the user sees.
        threads: of the numeric libraries; all that a run uses.
        scratch: a folder that survives a kill, for a long stage to go on from (checkpoints). It belongs to
            the artifact's key, and is gone once the artifact is stored.
        ranks: the processes of the run.
    """

    run_dir: Path
    seed: int
    device: str
    tracker: Tracker
    store: ArtifactStore
    console: Console
    threads: int = 1
    scratch: Path = Path()
    ranks: Ranks = field(default_factory=Alone)

    def resumed(self, name: str, where: str) -> None:
        """Say, on the terminal and in the record, that a computation goes on from a killed one's state.

        Args:
            name: of the computation: ``train``.
            where: it goes on, as ``after epoch 3 of 15``.
        """
        self.console.say(f"  {name} goes on {where}")
        self.tracker.tags({f"resumed/{name}": where})
