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
    """One run: where it writes, its seed and device, and the services it shares with other runs."""

    run_dir: Path
    seed: int
    device: str
    tracker: Tracker
    store: Store
    console: Console
