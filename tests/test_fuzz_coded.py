"""Some changed files, in every run of the tests; many more by ``python -m tests.fuzz_coded``."""

from __future__ import annotations

from tests.fuzz_coded import run


def test_a_changed_file_is_refused_or_decodes_to_what_it_was(capfd):
    outcomes = run(1500, seed=1)
    fine = {"unchanged", "refused", "equal", "another"}
    assert {name.split(" ", 1)[1] for name in outcomes} <= fine, capfd.readouterr().out
    assert not outcomes["damaged another"]
    assert outcomes["damaged refused"] > 1000 and outcomes["hostile refused"] > 50  # both ways were tried
