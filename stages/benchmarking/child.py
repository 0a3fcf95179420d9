"""``python -m stages.benchmarking.child FILE``: one competitor in a process of its own.

FILE holds the task, the competitor and the case. Answers are JSON, a line each, on standard output, which
libraries that print are kept away from.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main(request: Path) -> None:
    """Prepare the competitor; then serve timings until the input ends, or measure memory once."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    from stages.benchmarking.process import reason
    from stages.benchmarking.torchvision_operators import optional_torchvision_operators

    try:
        # written by the parent, a moment ago, into a folder of its own
        with optional_torchvision_operators():  # classes of transformers come along with their modules
            task, competitor, case = pickle.loads(request.read_bytes())
        _set_threads(case.threads)
        step = competitor.prepare(case)
        if task == "measure":
            before = _peak_bytes()
            step()
            answer({"value": [before, _peak_bytes()]})
        else:
            _serve(step, case, answer)
    except Exception as error:  # the parent reports it
        answer({"error": reason(error)})


def _serve(step: Callable[[], object], case: Any, answer: Callable[[Any], None]) -> None:
    from stages.benchmarking.agreement import correlation
    from stages.measuring.timing import timer

    seconds = timer(step, case.clock)
    answer({"value": correlation(step(), case.expected)})
    for line in sys.stdin:
        answer({"value": seconds(int(line))})


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _peak_bytes() -> int:
    """The largest resident set so far."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):  # not Linux, whose ru_maxrss counts the parent's memory in
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]))
