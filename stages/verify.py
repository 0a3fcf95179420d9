"""Stage *verify*: parity as a contract. It comes last, so that a run that breaks it is recorded whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import ParityError
from pipeline.stage import Inputs
from stages.artifacts import Verdict


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Fail the run where the verdict is that integers and simulation lie further apart than agreed."""

    name: ClassVar[str] = "verify"
    consumes: ClassVar[tuple[type, ...]] = (Verdict,)
    produces: ClassVar[None] = None
    cacheable: ClassVar[bool] = False

    def check(self) -> None:
        """Nothing to check before the verdict is there."""

    def run(self, ctx: RunContext, inputs: Inputs) -> None:
        """Raise `ParityError` with what was broken, the worst layer and the remedy."""
        verdict: Verdict = inputs[Verdict]
        if verdict.broken is not None:
            raise ParityError(verdict.broken)
