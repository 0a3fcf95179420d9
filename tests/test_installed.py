"""The packages as they are installed, not as a clone holds them: beside all others, in one folder.

A run has to tell its own code from theirs: what a stage's key is made of, and what a served model carries.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from pipeline.wheel import OWN

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder like site-packages after ``pip install .``."""
    folder = tmp_path_factory.mktemp("environment") / "site-packages"
    folder.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(("__editable__", "quantization_pipeline")) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    for name in OWN:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_main_job_runs_and_records_a_model_with_our_code_alone(site, tmp_path):
    command = [
        *(sys.executable, "-m", "pipeline", "tracking=mlflow", "training.float.epochs=1", "threads=1"),
        *("calibration.samples=64", "evaluate.parity_samples=100", "speed.seconds=0.2"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    (run_dir,) = tmp_path.glob("outputs/runs/*/*")
    assert json.loads((run_dir / "metrics.json").read_text())["integer/agreement"] == 1.0
    (wheel,) = (run_dir / "serving").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packages = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in packages if not name.endswith(".dist-info")} <= set(OWN)
