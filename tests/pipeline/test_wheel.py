"""A served model's wheel holds all that its loader runs by, and runs where the project is not installed."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.wheel import OWN, write_wheel
from stages.artifacts import IntegerProgram
from stages.integer.program import Program, Value

ANSWER = """
import sys
import numpy as np
import pipeline, stages.serving
assert all(module.__file__.startswith(sys.argv[1]) for module in (pipeline, stages.serving))
served = stages.serving._load_pyfunc(sys.argv[2])
print(served.predict(np.full((1, 4), 0.5, np.float32)).tolist())
"""


def test_what_it_holds_answers_alone(tmp_path):
    wheel = write_wheel(["stages.serving"], ["numpy>=1.26"], tmp_path / "serving")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    value = Value(name="x", shape=(4,), scale=0.25, zero_point=0, quant_min=-128, quant_max=127)
    (tmp_path / "program").mkdir()
    IntegerProgram(program=Program(values={"x": value}, ops=(), input="x", output="x")).save(
        tmp_path / "program"
    )
    command = [sys.executable, "-P", "-c", ANSWER, str(tmp_path / "installed"), str(tmp_path / "program")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[[0.5, 0.5, 0.5, 0.5]]\n"


def test_its_record_has_every_file_and_the_same_sources_give_the_same_bytes(tmp_path):
    first, second = (
        write_wheel(["pipeline.errors"], ["numpy>=1.26", "safetensors"], tmp_path / name) for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes() and first.name == second.name
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        about = next(name.partition("/")[0] for name in names if name.endswith("/RECORD"))
        assert set(names) == {
            "pipeline/__init__.py",
            "pipeline/errors.py",
            *(f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD")),
        }
        metadata = archive.read(f"{about}/METADATA").decode()
        assert "Requires-Dist: numpy>=1.26\nRequires-Dist: safetensors\n" in metadata
        for line in archive.read(f"{about}/RECORD").decode().splitlines():
            name, digest, size = line.split(",")
            if name.endswith("/RECORD"):
                continue
            content = archive.read(name)
            found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={found}", len(content))


def test_a_module_without_a_source_is_refused(tmp_path):
    with pytest.raises(PipelineError, match=r"'nowhere\.to_be' is not a module with a source file"):
        write_wheel(["nowhere.to_be"], [], tmp_path)


def test_what_counts_as_the_projects_is_what_it_installs():
    """Installed, its packages lie beside all others, none of which belongs into the wheel."""

    found = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]["find"]
    assert {name.rstrip("*") for name in found["include"]} == set(OWN)
