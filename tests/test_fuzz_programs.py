"""Some changed programs, in every run of the tests; many more by ``python -m tests.fuzz_programs``."""

from __future__ import annotations

from tests.fuzz_programs import run


def test_a_changed_program_is_refused_in_a_line_or_runs_alike_everywhere(capfd):
    outcomes = run(600, seed=0)
    assert outcomes["wrong"] == 0, capfd.readouterr().out
    assert outcomes["refused"] > 100 and outcomes["equal"] > 20  # both ways were tried
