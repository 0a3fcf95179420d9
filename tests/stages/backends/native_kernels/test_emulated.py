"""The engine on CPUs that are not here, each emulated."""

from pathlib import Path

import numpy as np
import pytest

from stages.backends.reference import Reference
from tests.stages.backends.native_kernels.cases import Case, cases
from tests.stages.backends.native_kernels.cases import drawn as of_strategy
from tests.stages.backends.native_kernels.emulated import MISSING, PROCESSORS, REASON, run_emulated
from tests.stages.backends.native_kernels.few_bits import few_bits, in_nibbles
from tests.stages.backends.native_kernels.kinds import groups

Drawn = list[tuple[Case, np.ndarray]]


def computed(found: list[Case]) -> Drawn:
    return [(case, Reference(threads=1).compile(case[0]).run(case[1])) for case in found]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """Programs, and the reference's levels."""
    return computed(cases(8))


@pytest.fixture(scope="module")
def few() -> Drawn:
    """Layers of 4 bits."""
    return computed([*of_strategy(few_bits(), 60), *of_strategy(groups(), 20)])


@pytest.mark.skipif(MISSING is not None, reason=REASON)
@pytest.mark.parametrize("isa", PROCESSORS)
def test_every_program_is_the_references(isa: str, drawn: Drawn, few: Drawn, tmp_path: Path) -> None:
    check(run_emulated(isa, [case for case, _ in drawn], tmp_path), drawn)
    with in_nibbles():
        check(run_emulated(isa, [case for case, _ in few], tmp_path), few)


def check(found: list[np.ndarray], drawn: Drawn) -> None:
    for (case, expected), levels in zip(drawn, found, strict=True):
        assert levels.dtype == expected.dtype
        assert np.array_equal(levels, expected), case[0]
