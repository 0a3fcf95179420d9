"""Some changed files of each kind, in every run of the tests; many more by ``python -m tests.fuzz_files``."""

from __future__ import annotations

import pytest

from tests.fuzz_files import CASES
from tests.fuzzing import run


@pytest.mark.parametrize("kind", CASES)
def test_a_changed_file_is_refused_clearly_or_read(kind, capfd):
    outcomes = run("tests.fuzz_files", [f"--kind={kind}"], 60, seed=0)
    assert outcomes["wrong"] == 0, capfd.readouterr().out
    assert outcomes["refused"] >= 5 and outcomes["equal"] >= 2  # both ways were tried
