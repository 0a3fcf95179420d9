import re

import numpy as np
import pytest

from pipeline.errors import PipelineError
from stages.backends.native import Native
from stages.backends.native_kernels.instruction_sets import (
    INSTRUCTION_SETS,
    NAMES,
    available,
    check_name,
    choose,
)
from stages.backends.native_kernels.library import SOURCE, cpu_features, find_compiler
from stages.backends.reference import Reference
from tests.stages.backends.native_kernels.cases import Case, cases

AVX512 = {"avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}
COMPILER = find_compiler()
HERE = list(available(cpu_features(COMPILER))) if COMPILER else []


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Case, np.ndarray]]:
    """Programs, and the reference's levels."""
    return [(case, Reference(threads=1).compile(case[0]).run(case[1])) for case in cases(20)]


@pytest.mark.parametrize("isa", HERE)
def test_every_program_is_the_references(isa: str, drawn: list[tuple[Case, np.ndarray]]) -> None:
    for (program, q, threads), expected in drawn:
        executable = Native(threads=threads, isa=isa, fallback=False).compile(program)
        assert np.array_equal(executable.run(q), expected), program


@pytest.mark.parametrize(
    ("features", "names"),
    [
        (AVX512, ["avx512vnni", "avxvnni", "avx2", "scalar"]),
        ({*AVX512, "avx512_vbmi"}, ["avx512vbmi", "avx512vnni", "avxvnni", "avx2", "scalar"]),
        ({"avx2", "avx_vnni"}, ["avxvnni", "avx2", "scalar"]),
        ({"avx2"}, ["avx2", "scalar"]),
        (AVX512 - {"avx512_vnni"}, ["avx2", "scalar"]),
        ({"neon", "dotprod", "i8mm"}, ["neon_i8mm", "neon_dotprod", "neon", "scalar"]),
        ({"neon", "dotprod"}, ["neon_dotprod", "neon", "scalar"]),
        ({"neon"}, ["neon", "scalar"]),
        (set(), ["scalar"]),
    ],
)
def test_what_a_cpu_has_comes_fastest_first(features: set[str], names: list[str]) -> None:
    assert list(available(features)) == names
    assert choose(None, features).name == names[0]
    assert [choose(name, features).name for name in names] == names


def test_avx_vnni_is_encoded_as_the_cpu_knows_it() -> None:
    assert "-mavxvnni" in choose("avxvnni", {"avx2", "avx_vnni"}).flags
    assert "-mavx512vnni" in choose("avxvnni", AVX512).flags


def test_zig_gets_flags_that_it_takes() -> None:
    zig = ("python", "-m", "ziglang", "c++")
    neon, avx2 = choose("neon_dotprod", {"neon", "dotprod"}), choose("avx2", AVX512)
    assert neon.flags_of(("c++",)) == ("-march=armv8.2-a+dotprod",)
    assert neon.flags_of(zig) == ("-mcpu=generic+dotprod",)
    assert avx2.flags_of(zig) == avx2.flags_of(("c++",)) == ("-mavx2",)


def test_one_that_the_cpu_lacks_is_refused_with_those_that_it_has() -> None:
    text = (
        "backend.isa=avx512vnni: this CPU lacks it (it takes avx512_vnni and avx512bw and avx512dq and "
        "avx512f and avx512vl; the CPU has avx2). Remedy: one of those that it has, backend.isa=avx2, "
        "scalar; or null for the fastest"
    )
    with pytest.raises(PipelineError, match=re.escape(text)):
        choose("avx512vnni", {"avx2"})


def test_one_that_there_is_not_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"isa=neon_dot: did you mean 'neon_dotprod'\?"):
        check_name("neon_dot")
    for name in (None, *NAMES):
        check_name(name)


def test_every_header_is_there() -> None:
    assert all((SOURCE / "isa" / isa.header).is_file() for isa in INSTRUCTION_SETS)
