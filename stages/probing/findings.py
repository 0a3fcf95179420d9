"""What a runtime's integers say: which arithmetic it has, operator by operator."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.integer.program import Integers
from stages.probing.arithmetics import arithmetics
from stages.probing.questions import Question
from stages.probing.runtimes import Runtime


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A runtime's arithmetic of an operator.

    Args:
        runtime: its name.
        version: of its package; empty where it is not installed.
        operator: what was asked for; empty where nothing could be asked.
        profiles: those of `arithmetics` that gave the very same integers in all questions.
        nearest: the one of which the fewest integers differ.
        off_by: the most levels by which they do.
        differing: how many do.
        compared: how many there are.
        refused: why nothing was compared; empty else.
    """

    runtime: str
    version: str
    operator: str = ""
    profiles: tuple[str, ...] = ()
    nearest: str = ""
    off_by: int = 0
    differing: int = 0
    compared: int = 0
    refused: str = ""

    @property
    def verdict(self) -> str:
        """In words."""
        if self.refused:
            return f"not asked: {self.refused}"
        if self.profiles:
            return ", ".join(self.profiles)
        return (
            f"none: off by {self.off_by} on {self.differing:,} of {self.compared:,}, nearest {self.nearest}"
        )


def ask(name: str, runtime: Runtime, questions: Sequence[Question], expected: Expected) -> Iterator[Finding]:
    """A finding an operator; a single one where the runtime is missing."""
    installed = runtime.installed()
    if installed is None:
        missing = f"{runtime.package} is not installed; pip install '.[bench]'"
        yield Finding(runtime=name, version="", refused=missing)
        return
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    for number, question in enumerate(questions):
        tally = tallies[question.operator]
        try:
            found = runtime.executable(question.program).run(question.levels)
        except (ValueError, RuntimeError, ImportError) as error:  # a PipelineError is the first
            tally.refused = _first_line(error)
            continue
        tally.add(found, expected.of(number))
    reasons = {tally.refused for tally in tallies.values() if not tally.compared}
    if len(reasons) == 1 and not any(tally.compared for tally in tallies.values()):
        yield Finding(runtime=name, version=installed, refused=reasons.pop())
        return
    for operator, tally in tallies.items():
        yield tally.finding(name, installed, operator)


class Expected:
    """What each arithmetic gives in each question, computed once for all runtimes."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions
        self._known: dict[int, Mapping[str, Integers]] = {}

    def of(self, number: int) -> Mapping[str, Integers]:
        """The integers of question `number`, by name of `arithmetics`."""
        if number not in self._known:
            self._known[number] = arithmetics(self._questions[number])
        return self._known[number]


@dataclass
class _Tally:
    """Counts over the questions of one operator, which have the same arithmetics."""

    differing: Counter[str] = field(default_factory=Counter)
    off_by: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    refused: str = ""

    def add(self, found: Integers, expected: Mapping[str, Integers]) -> None:
        self.compared += found.size
        for name, levels in expected.items():
            difference = np.abs(found.astype(np.int32) - levels)
            self.differing[name] += int(np.count_nonzero(difference))
            self.off_by[name] = max(self.off_by[name], int(difference.max(initial=0)))

    def finding(self, runtime: str, version: str, operator: str) -> Finding:
        if not self.compared:
            return Finding(runtime=runtime, version=version, operator=operator, refused=self.refused)
        nearest = min(self.differing, key=lambda name: self.differing[name])
        return Finding(
            runtime=runtime,
            version=version,
            operator=operator,
            profiles=tuple(name for name, count in self.differing.items() if not count),
            nearest=nearest,
            off_by=self.off_by[nearest],
            differing=self.differing[nearest],
            compared=self.compared,
        )


def _first_line(error: BaseException, most: int = 160) -> str:
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return text if len(text) <= most else text[: most - 1] + "…"
