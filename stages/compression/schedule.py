"""When weights are pruned: at once, or gradually (Zhu & Gupta 2017, arXiv 1710.01878, eq. 1).

    ``s_t = s_f · (1 − (1 − (t − t_0) / (t_1 − t_0))^3)``   for ``t_0 ≤ t ≤ t_1``:

the share pruned rises from 0 to s_f, fast while there is much to spare, slowly in the end.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PruningSchedule:
    """Shares of all training steps.

    Args:
        begin: the first step that prunes.
        end: from then on masks rest, and what is left trains. Equal to `begin`: one shot.
        updates: how often masks are chosen in between.
    """

    begin: float = 0.0
    end: float = 0.6
    updates: int = 100

    def __post_init__(self) -> None:
        if not 0.0 <= self.begin <= self.end < 1.0:
            raise ValueError(
                f"begin={self.begin}, end={self.end}: must ascend in [0, 1), shares of all steps; what is "
                "left is trained from end on. Remedy: begin=0.0 end=0.6"
            )
        if self.updates < 1:
            raise ValueError(f"updates={self.updates}: must be at least 1")

    def last(self, steps: int) -> int:
        """The step from which masks rest."""
        return int(self.end * steps)

    def updates_at(self, step: int, steps: int) -> bool:
        """Whether masks are chosen before `step`, of `steps`."""
        first, last = int(self.begin * steps), self.last(steps)
        every = max(1, (last - first) // self.updates)
        return step == last or (first <= step < last and (step - first) % every == 0)

    def share(self, step: int, steps: int) -> float:
        """How much of what is pruned in the end is at `step`: 0..1."""
        first, last = int(self.begin * steps), self.last(steps)
        if step >= last:
            return 1.0
        return 1.0 - (1.0 - max(step - first, 0) / (last - first)) ** 3
