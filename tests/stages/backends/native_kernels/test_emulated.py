"""The engine on CPUs that are not here, each emulated."""

from pathlib import Path

import numpy as np
import pytest

from stages.backends.reference import Reference
from tests.stages.backends.native_kernels.cases import Case, cases
from tests.stages.backends.native_kernels.emulated import MISSING, PROCESSORS, REASON, run_emulated


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Case, np.ndarray]]:
    """Programs, and the reference's levels."""
    return [(case, Reference(threads=1).compile(case[0]).run(case[1])) for case in cases(8)]


@pytest.mark.skipif(MISSING is not None, reason=REASON)
@pytest.mark.parametrize("isa", PROCESSORS)
def test_every_program_is_the_references(
    isa: str, drawn: list[tuple[Case, np.ndarray]], tmp_path: Path
) -> None:
    found = run_emulated(isa, [case for case, _ in drawn], tmp_path)
    for (case, expected), levels in zip(drawn, found, strict=True):
        assert levels.dtype == expected.dtype
        assert np.array_equal(levels, expected), case[0]
