"""What a stage may use of the run it is part of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.console import Console
    from pipeline.store import Store
    from pipeline.tracking.base import Tracker


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
        scratch: a folder that survives a kill, for a long stage to go on from (checkpoints). It belongs to
            the artifact's key, and is gone once the artifact is stored.
    """

    run_dir: Path
    seed: int
    device: str
    tracker: Tracker
    store: Store
    console: Console
    scratch: Path = Path()
