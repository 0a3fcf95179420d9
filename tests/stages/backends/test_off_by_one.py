"""How often oneDNN is a level off: ``python -m tests.stages.backends.test_off_by_one 1000`` random programs.

Each operator is compared with the reference on the very same inputs, so that differences do not add up; the
reference's programs are compared with unbounded integers, value by value.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings

from stages.backends.onednn import OneDNN
from stages.backends.reference import Reference
from stages.integer.program import Program
from tests.stages.backends.test_onednn import LAYERS, differences
from tests.stages.integer import oracle
from tests.stages.integer.strategies import MODES, programs, random_input


def measure(examples: int, samples: int = 2) -> dict[str, Counter[str]]:
    """Counts by mode, over so many programs, the same ones each time."""
    counts = {mode: Counter[str]() for mode in MODES}

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(program=programs(modes=MODES))
    def count(program: Program) -> None:
        q = random_input(program, samples)
        expected = oracle.run(program, q)
        reference = Reference(threads=1).compile(program).trace(q)
        found = OneDNN(threads=1).compile(program).trace(q)
        of_mode = counts[program.requantize]
        of_mode["programs"] += 1
        of_mode["unlike unbounded integers"] += any(
            (reference[name].astype(object) != expected[name]).any() for name in expected
        )
        of_mode["programs with another output"] += bool(
            (reference[program.output] != found[program.output]).any()
        )
        for op, difference in zip(program.ops, differences(program, found).values(), strict=True):
            of_mode["most levels off"] = max(of_mode["most levels off"], int(difference.max(initial=0)))
            if op.op in LAYERS:
                of_mode["levels of layers"] += difference.size
                of_mode["levels off by one"] += int(np.count_nonzero(difference == 1))

    count()
    return counts


def test_at_most_a_level_and_rarely() -> None:
    """oneDNN rounds once, in float32; fixed points take ties, and make them, in ways of their own."""
    for mode, counts in measure(60).items():
        assert counts["programs"] > 0
        assert counts["unlike unbounded integers"] == 0
        assert counts["most levels off"] <= 1
        assert counts["levels off by one"] <= (0.01 if mode == "float" else 0.03) * counts["levels of layers"]


def main() -> None:
    """Print a line a mode."""
    for mode, counts in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1000).items():
        rate = counts["levels off by one"] / max(counts["levels of layers"], 1)
        print(f"{mode}: {dict(counts)}, rate of off-by-one {rate:.2e}")


if __name__ == "__main__":
    main()
