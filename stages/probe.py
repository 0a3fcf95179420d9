"""``python -m pipeline.probe``: which of our arithmetics installed runtimes have, operator by operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.console import Console
from pipeline.errors import ConfigError, alternatives
from stages.probing.findings import Expected, Finding, ask
from stages.probing.questions import MAKERS, questions
from stages.probing.runtimes import RUNTIMES


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Ask runtimes, and print what they are.

    Args:
        runtimes: names of `stages.probing.runtimes`; None for all.
        operators: names of `stages.probing.questions`; None for all.
    """

    runtimes: tuple[str, ...] | None = None
    operators: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for key, chosen, known in (
            ("runtimes", self.runtimes, RUNTIMES),
            ("operators", self.operators, MAKERS),
        ):
            for name in chosen or ():
                if name not in known:
                    raise ConfigError(f"probe.{key}: unknown '{name}'; {alternatives(name, known)}")

    def run(self, console: Console) -> list[Mapping[str, Any]]:
        """Print a line as each runtime is done, and a table; returns its rows for a machine to read."""
        asked = list(questions(self.operators))
        expected = Expected(asked)
        found: list[Finding] = []
        for name in self.runtimes or RUNTIMES:
            found += ask(name, RUNTIMES[name], asked, expected)
            console.say(f"asked {name}")
        rows = [(one.runtime, one.version or "–", one.operator or "–", one.verdict) for one in found]
        console.table("arithmetic", ("runtime", "version", "operator", "profile"), rows)
        return [asdict(one) for one in found]
