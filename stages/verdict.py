"""Stage *verdict*: parity held against the contract, for *report* to show and *verify* to act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import ConfigError
from pipeline.stage import Inputs
from stages.artifacts import Metrics, Parity, Verdict
from stages.measuring.verdict import Contract, judge


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Say whether integers and simulation lie as near each other as agreed.

    Args:
        min_agreement: least share of test samples on which integers and simulation decide the same; None
            takes what the backend declares: 1 where it is exact.
        max_off_by: most levels of difference at any layer; None takes 0 where the backend is exact, and no
            limit where it is not.
    """

    name: ClassVar[str] = "verdict"
    consumes: ClassVar[tuple[type, ...]] = (Metrics,)
    optional: ClassVar[tuple[type, ...]] = (Parity,)
    produces: ClassVar[type] = Verdict
    cacheable: ClassVar[bool] = True

    min_agreement: float | None = None
    max_off_by: int | None = None

    def __post_init__(self) -> None:
        try:
            self._contract()
        except ValueError as error:
            raise ConfigError(f"evaluate.{error}") from error

    def check(self) -> None:
        """Nothing to check before the figures are there."""

    def run(self, ctx: RunContext, inputs: Inputs) -> Verdict:
        """Judge what was measured."""
        return judge(inputs[Metrics], inputs.get(Parity), self._contract())

    def _contract(self) -> Contract:
        return Contract(min_agreement=self.min_agreement, max_off_by=self.max_off_by)
