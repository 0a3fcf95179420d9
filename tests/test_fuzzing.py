"""Some changed files for each loader, in every run of the tests; many more by ``python -m tests.fuzzing``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from stages.backends.native_kernels import library
from stages.integer.program import Value
from tests.fuzzing.__main__ import sanitized
from tests.fuzzing.changes import real, telling
from tests.fuzzing.running import loader, loaders, run

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", loaders())
def test_a_changed_file_is_refused_clearly_or_read(name, capfd):
    count = getattr(loader(name), "CASES", 60)
    outcomes = run(name, count, seed=0)
    assert outcomes["wrong"] == 0, capfd.readouterr().out
    assert outcomes["refused"] >= 5 and outcomes["equal"] >= 2  # both ways were tried
    assert outcomes.total() == count


def test_the_engine_is_clean_under_sanitizers(capfd):
    found = sanitized()
    if not Path(found["LD_PRELOAD"]).is_absolute() or isinstance(library.find_library(), str):
        pytest.skip("no engine here, or no AddressSanitizer")
    outcomes = run("program", 40, seed=3, options=["--sanitize"], environment=found)
    assert outcomes["wrong"] == 0, capfd.readouterr().out
    assert outcomes["equal"] + outcomes["mistrusted"] >= 3


@pytest.fixture
def poor(tmp_path, monkeypatch):
    """A loader with all kinds of mistakes, known to the children too."""
    (tmp_path / "poor.py").write_text(POOR)
    (tmp_path / "sitecustomize.py").write_text(
        f"import tests.fuzzing.loaders\ntests.fuzzing.loaders.__path__.append({str(tmp_path)!r})\n"
    )
    paths = [str(tmp_path), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


POOR = """
import os

NUMBERS = iter(range(100))
KINDS = ("equal", "raise", "leave", "refused", "wrong levels", "mistrusted", "crash", "equal")


def case(rng, folder):
    chosen = KINDS[int(rng.random() * len(KINDS))]
    if chosen == "raise":
        raise KeyError("gone")
    if chosen == "crash":
        os.kill(os.getpid(), 11)
    if chosen == "leave":
        os._exit(3)
    return chosen
"""


def test_what_is_wrong_prints_the_line_that_repeats_it(poor, capfd):
    outcomes = run("poor", 60, seed=5)
    assert outcomes.total() == 60  # a crash ends no more than its case
    printed = capfd.readouterr().out.splitlines()
    assert len(printed) == outcomes["wrong"] > 10
    for said in ("raised KeyError: [\"'gone'\"]", "killed by -11", "killed by 3", "wrong levels"):
        line = next(line for line in printed if line.endswith((said, f"{said}: ")))
        command, _, _ = line.partition("  # ")
        assert re.fullmatch(r"python -m tests.fuzzing --loader poor --seed 5 --first \d+ --count 1", command)
        first = int(command.split()[-3])
        assert run("poor", 1, seed=5, first=first)["wrong"] == 1
        assert capfd.readouterr().out.strip() == line.strip()
    assert outcomes["mistrusted"] > 0 and outcomes["equal"] > 0 and outcomes["refused"] > 0


def test_seconds_end_a_long_run(poor):
    assert 0 < run("poor", 10**9, seed=0, seconds=2).total() < 10**6


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.float32])
def test_an_output_of_zeros_or_of_limits_proves_nothing(kind):
    value = Value(name="y", shape=(100,), scale=1.0, zero_point=3, quant_min=-128, quant_max=127)
    q = np.full(100, 3, np.int8)
    q[:60] = -128
    q[60:96] = 127
    assert not telling(q, value)
    q[90:96] = 5
    assert telling(q, value) and not telling(np.full(100, 5, np.int8), value)
    a = np.zeros(100, kind)
    a[:4] = 1
    assert not real(a)
    a[:6] = 1
    assert real(a) and not real(a[:0])
