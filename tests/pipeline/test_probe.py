"""``python -m pipeline.probe`` on the command line, over the real configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.probe", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_some_runtimes_are_asked_for_some_operators_and_nothing_is_written(tmp_path):
    chosen = ["probe.runtimes=[tflm,litert reference]", "probe.operators=[conv2d]"]
    code, stdout, _ = run(tmp_path, *chosen)
    assert code == 0
    assert "asked tflm" in stdout and "litert reference" in stdout and "conv2d" in stdout
    assert "softmax" not in stdout and "openvino" not in stdout
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_there_for_a_machine(tmp_path):
    code, stdout, _ = run(tmp_path, "--json", "probe.runtimes=[tflm]", "probe.operators=[linear]")
    (row,) = json.loads(stdout)
    assert code == 0
    assert (row["runtime"], row["operator"], row["refused"]) == ("tflm", "linear", "")
    assert row["version"] and "tflm" in row["profiles"]


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("probe.runtimes=[tflite]", "probe.runtimes: unknown 'tflite'; did you mean 'tflm'?"),
        ("probe.operator=[conv2d]", "probe.operator"),
    ],
)
def test_what_is_wrong_is_said_in_a_few_lines(tmp_path, argument, text):
    code, stdout, stderr = run(tmp_path, argument)
    assert (code, stdout) == (1, "") and text in stderr and "Traceback" not in stderr


def test_what_a_native_library_prints_does_not_mix_with_the_table(tmp_path):
    """Qualcomm's writes a line of its own to the standard output."""
    said = (
        "import os, sys\nimport pipeline.probe as probe\n"
        "class Loud:\n    def run(self, console):\n        os.write(1, b'loud\\n')\n"
        "        return [{'runtime': 'x'}]\n"
        "probe._questions = lambda overrides: Loud()\nsys.exit(probe.main(['--json']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", said],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"runtime": "x"}]
    assert done.stderr == "loud\n"
