"""Stage *benchmark_coverage*: which architectures of public zoos run on integers, and how much of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.errors import ConfigError, alternatives
from pipeline.stage import Inputs
from stages.benchmarking.coverage import Coverage, Followed, Follower
from stages.benchmarking.zoo import Zoo


@dataclass(frozen=True, kw_only=True)
class BenchmarkCoverage:
    """One network of each family, captured, calibrated on noise and lowered; its integers are compared.

    Args:
        zoos: by name.
        follower: how each network is followed.
        chosen: names of zoos, in order; None for all.
        families: of the chosen zoos; None for all.
        most_parameters: a family whose network has more is left out, and listed.
    """

    name: ClassVar[str] = "benchmark_coverage"
    consumes: ClassVar[tuple[type, ...]] = ()
    produces: ClassVar[type] = Coverage
    cacheable: ClassVar[bool] = False

    zoos: Mapping[str, Zoo]
    follower: Follower
    chosen: tuple[str, ...] | None = None
    families: tuple[str, ...] | None = None
    most_parameters: float = 90e6

    def check(self) -> None:
        """Raise for unknown zoos and families, and for packages that are not installed."""
        zoos = self._zoos()
        for zoo in zoos.values():
            zoo.check()
        known = {family for zoo in zoos.values() for family in zoo.families()}
        for family in self.families or ():
            if family not in known:
                raise ConfigError(f"benchmark.families={family}: {alternatives(family, known)}")

    def run(self, ctx: RunContext, inputs: Inputs) -> Coverage:
        """Follow all: a line each on the console and in coverage.jsonl; then tables, and coverage.json."""
        networks: list[Followed] = []
        left_out: dict[str, int] = {}
        work = [(name, zoo, family) for name, zoo in self._zoos().items() for family in self._of(zoo)]
        with (
            (ctx.run_dir / "coverage.jsonl").open("w", encoding="utf-8") as lines,
            ctx.console.progress("networks", len(work)) as advance,
        ):
            for name, zoo, family in work:
                found = self._follow(name, zoo, family, ctx.seed)
                advance(family=family)
                if isinstance(found, int):
                    left_out[f"{name}/{family}"] = found
                    ctx.console.say(f"{name}/{family}: left out, {found:,} parameters")
                    continue
                networks.append(found)
                ctx.console.say(str(found))
                print(json.dumps(asdict(found)), file=lines, flush=True)
        coverage = Coverage(networks=tuple(networks), left_out=left_out)
        coverage.save(ctx.run_dir)
        _show(coverage, ctx.console)
        return coverage

    def _zoos(self) -> Mapping[str, Zoo]:
        for name in self.chosen or ():
            if name not in self.zoos:
                raise ConfigError(f"benchmark.zoos={name}: {alternatives(name, self.zoos)}")
        return self.zoos if self.chosen is None else {name: self.zoos[name] for name in self.chosen}

    def _of(self, zoo: Zoo) -> list[str]:
        return [one for one in zoo.families() if self.families is None or one in self.families]

    def _follow(self, name: str, zoo: Zoo, family: str, seed: int) -> Followed | int:
        """What became of a family's network, or the number of its parameters where it has too many."""
        try:
            network = zoo.network(family)
        except ValueError as error:
            return Followed(zoo=name, family=family, refused=str(error))
        if network.parameters > self.most_parameters:
            return network.parameters
        return self.follower.follow(name, family, network, seed)


def _show(coverage: Coverage, console: Console) -> None:
    columns = ("family", "network", "parameters", "operators", "on integers", "equal", "SQNR dB", "s")
    for zoo in dict.fromkeys(one.zoo for one in coverage.networks):
        rows = [
            (
                one.family,
                one.network,
                f"{1e-6 * one.parameters:.1f} M",
                one.operators or "",
                f"{one.on_integers:.1%}" if one.operations else "",
                "yes" if one.equal else "no",
                "" if one.sqnr_db is None else f"{one.sqnr_db:.1f}",
                f"{one.seconds:.0f}",
            )
            for one in coverage.networks
            if one.zoo == zoo
        ]
        console.table(zoo, columns, rows)
    reasons: list[tuple[str, str]] = []
    for one in coverage.networks:
        name = f"{one.zoo}/{one.family}"
        reasons += [(name, " ".join(one.refused.split()))] if one.refused else []
        reasons += [(name, f"{function} in float: {why}") for function, why in one.islands.items()]
    if reasons:
        console.table("refused, or in float", ("family", "reason"), reasons)
    console.table("coverage", ("families", ""), [(k, f"{v:.0f}") for k, v in coverage.metrics().items()])
