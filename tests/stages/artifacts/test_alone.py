"""The integer program runs where nothing but numpy and safetensors is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.artifacts import IntegerProgram
from stages.graph.lower import lower
from tests.stages.reporting.conftest import make_run

ROOT = Path(__file__).parents[3]
ALONE = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

class Bare(PathFinder):  # what is not installed is not found, whoever asks
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        own = {"numpy", "safetensors", "stages", "pipeline"}
        known = name.partition(".")[0] in own | sys.stdlib_module_names
        return super().find_spec(name, path, target) if known else None

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Bare]
import numpy as np
from stages.artifacts import IntegerProgram

folder, backend = sys.argv[1:]
program = IntegerProgram.load(folder)
np.save(f"{folder}/{backend}.npy", program.run(np.load(f"{folder}/x.npy"), backend=backend))
"""


def run_alone(folder: Path, backend: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), backend],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def folder(tmp_path):
    program = IntegerProgram(program=lower(make_run(["conv"]).model.quantized, "float"))
    program.save(tmp_path)
    shape = program.program.values[program.program.input].shape
    x = np.random.default_rng(0).standard_normal((5, *shape)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "expected.npy", program.run(x))
    return tmp_path


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_a_program_runs_with_numpy_and_safetensors_alone(folder, backend):
    done = run_alone(folder, backend)
    assert done.returncode == 0, done.stderr
    expected = np.load(folder / "expected.npy")
    assert np.load(folder / f"{backend}.npy").tobytes() == expected.tobytes()


def test_a_backend_of_another_library_names_it(folder):
    done = run_alone(folder, "onednn")
    assert done.returncode == 1 and "No module named 'torch'" in done.stderr


def test_without_a_compiler_and_torch_the_native_backend_is_the_reference(folder, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    done = run_alone(folder, "native")
    assert done.returncode == 0 and "reference runs instead" in done.stderr
    assert np.load(folder / "native.npy").tobytes() == np.load(folder / "expected.npy").tobytes()
