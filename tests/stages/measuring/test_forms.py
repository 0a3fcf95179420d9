"""What a backend needs is asked for before anything is computed."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from typing import ClassVar

import pytest

from pipeline.errors import PipelineError
from stages.backends.native import Native
from stages.backends.native_kernels import library
from stages.backends.native_kernels.instruction_sets import NAMES
from stages.backends.reference import Reference
from stages.data.digits import Digits
from stages.evaluate import Evaluate
from stages.measuring.forms import check_backend
from stages.parity import CompareLayers
from stages.rounding import CompareRoundings
from stages.speed import MeasureSpeed

OTHER = "avx2" if platform.machine() == "aarch64" else "neon"
STAGES = (Evaluate, CompareLayers, CompareRoundings, MeasureSpeed)


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Reference):
    """A runtime that is not installed."""

    packages: ClassVar[tuple[str, ...]] = ("no_such_runtime",)
    export: ClassVar[str] = ""


@pytest.mark.skipif(library.find_compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("stage", STAGES)
def test_an_instruction_set_of_another_cpu_is_refused_by_every_stage(stage: type) -> None:
    text = rf"backend\.isa={OTHER}: this CPU lacks it \(it takes {OTHER}; the CPU has .*\)\. Remedy: one of "
    with pytest.raises(PipelineError, match=text):
        stage(data=Digits(), backend=Native(isa=OTHER)).check()


@pytest.mark.parametrize("stage", STAGES)
def test_a_package_that_is_missing_is_refused_by_every_stage(stage: type) -> None:
    with pytest.raises(PipelineError, match=re.escape("needs the package 'no_such_runtime', which is not")):
        stage(data=Digits(), backend=Elsewhere()).check()


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_there_is_taken(stage: type) -> None:
    for backend in (Native(), Native(isa="scalar"), Reference()):
        stage(data=Digits(), backend=backend).check()
    check_backend(None)


def test_where_no_compiler_tells_what_the_cpu_has_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine falls back there, and says so."""
    monkeypatch.setattr(library, "find_compiler", lambda: None)
    monkeypatch.setattr(library, "BROUGHT", library.BROUGHT / "nowhere")
    for name in NAMES:
        check_backend(Native(isa=name))
