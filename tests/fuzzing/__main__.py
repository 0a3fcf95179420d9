"""The command line of the fuzzers: ``python -m tests.fuzzing --loader onnx --seconds 600 --seed 1``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module

from tests.fuzzing import running


def sanitized() -> dict[str, str]:
    """The environment of children whose engine is compiled with AddressSanitizer and UBSan."""
    runtime = subprocess.run(
        ["c++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return {"LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}


def main() -> int:
    """Parse the command line; 1 where a case is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--loader", choices=(*running.loaders(), "all"), default="all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of each loader")
    parser.add_argument(
        "--count", type=int, help="most cases of each loader; 1000 where no seconds are given"
    )
    for name in ("seed", "first"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--sanitize", action="store_true", help="the engine with AddressSanitizer and UBSan")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    count = chosen.count or (1000 if chosen.seconds == float("inf") else 10**9)
    if chosen.child:
        if chosen.sanitize:
            import_module("tests.sanitized")  # compiles another engine
        numbers = range(chosen.first, chosen.first + count)
        running.child(chosen.loader, numbers, chosen.seed, chosen.seconds, limited=not chosen.sanitize)
        return 0
    wrong = 0
    for name in running.loaders() if chosen.loader == "all" else (chosen.loader,):
        outcomes = running.run(
            name,
            count,
            chosen.seed,
            chosen.first,
            seconds=chosen.seconds,
            options=["--sanitize"] * chosen.sanitize,
            environment=sanitized() if chosen.sanitize else {},
        )
        parts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
        print(f"{name}: {outcomes.total()} cases: {parts}", flush=True)
        wrong += outcomes["wrong"]
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
