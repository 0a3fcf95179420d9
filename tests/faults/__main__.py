"""Faults, and what happens to a run: ``python -m tests.faults --count 20 --seed 0``.

Each kind so many times, each case by its own seed; ``--only KIND`` repeats one kind, and ``--first N --count
1`` a single case. Ends with a table, fault by fault; the exit code is 1 where a case went wrong.
`tests.test_faults` runs a few.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from tests.faults import computing, recording
from tests.faults.workshop import QAT, QUICK, Workshop

Case = Callable[[random.Random], str]


def kinds(folder: Path) -> dict[str, Case]:
    """All kinds of faults, by name; runs are prepared when the first of them needs it."""
    prepared: list[Workshop] = []

    def shop() -> Workshop:
        if not prepared:
            prepared.append(Workshop(folder, *QAT))
        return prepared[0]

    cases: dict[str, Case] = {}
    for stage in stages_of_a_run():
        cases[f"killed in {stage}"] = lambda rng, stage=stage: computing.killed(shop(), rng, stage)
    for how in ("deleted", "truncated", "changed"):
        cases[f"entry {how} in use"] = lambda rng, how=how: computing.entry_damaged(shop(), rng, how)
    cases["checkpoint changed"] = lambda rng: computing.checkpoint_changed(shop(), rng)
    cases["disk full"] = lambda rng: computing.disk_full(shop(), rng)
    cases["disk read-only"] = lambda rng: computing.disk_read_only(shop(), rng)
    for name, case in recording.CASES.items():
        cases[name] = lambda rng, case=case: recording.tried(case, folder, rng)
    return cases


def stages_of_a_run() -> list[str]:
    """The stages that a run of `Workshop` computes, in order."""
    from pipeline.stage import in_order
    from tests.composed import built

    return [stage.name for stage in in_order(built(*QUICK, *QAT).stages)]


def main() -> int:
    """Run them, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20, help="cases of each kind")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    options = parser.parse_args()
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for kind, case in kinds(Path(folder)).items():
            if options.only not in kind:
                continue
            start = time.perf_counter()
            for number in range(options.first, options.first + options.count):
                outcome = case(random.Random(f"{kind}/{options.seed}/{number}"))
                outcomes[kind][outcome.partition(":")[0] if outcome.startswith("wrong") else outcome] += 1
                if outcome.startswith("wrong"):
                    again = f"--only '{kind}' --first {number} --count 1 --seed {options.seed}"
                    print(f"python -m tests.faults {again}  # {outcome}", flush=True)
            what = "; ".join(f"{outcome} ({n})" for outcome, n in outcomes[kind].most_common())
            print(f"{kind:34s} {time.perf_counter() - start:6.0f} s  {what}", flush=True)
    return 1 if any(counts["wrong"] for counts in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
