"""A few of the faults of `tests.faults`, of another seed than its own."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from tests.faults import computing, recording
from tests.faults.workshop import Workshop


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("faults"), "training.float.epochs=1")


CASES = {
    **{
        f"killed in {stage}": lambda shop, rng, stage=stage: computing.killed(shop, rng, stage)
        for stage in ("train", "observe", "convert", "evaluate", "report")
    },
    **{
        f"entry {how}": lambda shop, rng, how=how: computing.entry_damaged(shop, rng, how)
        for how in ("deleted", "truncated", "changed")
    },
    "disk full": computing.disk_full,
    "disk read-only": computing.disk_read_only,
}


@pytest.mark.parametrize("kind", CASES)
def test_no_finished_work_is_lost_and_the_program_is_the_same_to_the_byte(shop, kind):
    outcome = CASES[kind](shop, random.Random(f"suite/{kind}"))
    assert not outcome.startswith("wrong")


@pytest.mark.parametrize("kind", ["killed, recorded", "clock going back"])
def test_the_record_holds_what_the_run_found(kind):
    with tempfile.TemporaryDirectory() as folder:
        outcome = recording.tried(recording.CASES[kind], Path(folder), random.Random(f"suite/{kind}"))
    assert not outcome.startswith("wrong")
