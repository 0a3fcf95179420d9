"""Runs of several processes as a user starts them: ``torchrun … -m pipeline``, on real digits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICK = (
    "threads=1", "tracking=none", "calibration.samples=100", "calibration.batch_size=16",  # seven batches
    "evaluate.samples=50", "evaluate.parity_samples=20", "stages.speed=null", "stages.rounding=null",
)  # fmt: skip
BROKEN = """
    import os
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.layer = nn.Linear(64, classes)

        def forward(self, x):
            if self.training and os.environ.get("RANK") == "1":
                raise ValueError("the second of us cannot")
            return self.layer(torch.flatten(x, 1))
"""


def start(folder: Path, ranks: int, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline"]
    if ranks > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
        command = [*launcher, "-m", "pipeline"]
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [*command, *QUICK, *overrides],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, ranks: int, *overrides: str) -> tuple[int, str, str]:
    process = start(folder, ranks, *overrides)
    stdout, stderr = process.communicate(timeout=240)
    return process.returncode, stdout, stderr


def entries(folder: Path) -> dict[str, tuple[str, str]]:
    """The key and the hash of what is stored, by kind."""
    manifests = [json.loads(file.read_text()) for file in folder.glob("outputs/store/*/*/manifest.json")]
    return {manifest["kind"]: (manifest["key"], manifest["sha256"]) for manifest in manifests}


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A run of one process that trains, and its weights."""
    folder = tmp_path_factory.mktemp("one")
    code, stdout, stderr = run(folder, 1, "training.float.epochs=1")
    assert code == 0, stdout + stderr
    (weights,) = folder.glob("outputs/store/trained_model/*/state.safetensors")
    folder.with_suffix(".safetensors").write_bytes(weights.read_bytes())
    return folder, folder.with_suffix(".safetensors")


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranges_and_program_are_those_of_one_process_to_the_byte(one, tmp_path, ranks):
    """Keys too, so that runs of any number of ranks share what is stored."""
    before, weights = one
    code, stdout, stderr = run(tmp_path, ranks, "training.distributed=ddp", f"model.weights={weights}")
    assert code == 0, stdout + stderr
    ours, theirs = entries(tmp_path), entries(before)
    for kind in ("observations", "quantized_model", "integer_program", "metrics", "parity"):
        assert ours[kind] == theirs[kind], kind
    assert stdout.count("run directory:") == 1 and stdout.count("observe ") == 1
    assert len(list(tmp_path.glob("outputs/runs/*/*"))) == 1  # rank 0 alone writes


def test_training_by_ranks_has_a_key_of_its_own(one, tmp_path):
    code, stdout, stderr = run(tmp_path, 2, "training.distributed=ddp", "training.float.epochs=1")
    assert code == 0, stdout + stderr
    (ours, _), (theirs, _) = entries(tmp_path)["trained_model"], entries(one[0])["trained_model"]
    assert ours != theirs
    manifest = next(tmp_path.glob("outputs/store/trained_model/*/manifest.json"))
    assert json.loads(manifest.read_text())["made_from"]["ranks"] == 2


def test_a_rank_that_fails_ends_all_with_its_reason(tmp_path):
    (tmp_path / "broken.py").write_text("\n".join(line[4:] for line in BROKEN.splitlines()))
    began = time.monotonic()
    code, _, stderr = run(
        tmp_path, 2, "training.distributed=ddp", "model=torch", "model.target=broken.Network",
        "model.args={classes: data.num_classes}", "training.float.epochs=1",
    )  # fmt: skip
    assert code == 1 and time.monotonic() - began < 120
    assert stderr.count("rank 1: ") == 1 and "rank 1: ValueError: the second of us cannot" in stderr
    assert "rank 1 failed: ValueError: the second of us cannot" in stderr
    (log,) = tmp_path.glob("outputs/runs/*/*/pipeline.log")
    assert "RankLostError: rank 1 failed: ValueError: the second of us cannot" in log.read_text()


def test_a_rank_that_is_killed_ends_all_and_its_training_goes_on_with_one(tmp_path):
    process = start(tmp_path, 2, "training.distributed=ddp", "training.float.epochs=9")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("outputs/store/.scratch/*/train.safetensors")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(_rank(1, tmp_path), signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    (log,) = tmp_path.glob("outputs/runs/*/*/pipeline.log")
    # torchrun ends rank 0 at once; that is first where it does not talk at the moment
    lost = "another rank has ended without a word: it was killed" in stderr
    assert lost or "SystemExit: 143" in log.read_text()
    code, stdout, stderr = run(tmp_path, 1, "training.float.epochs=9", *STOP)
    assert code == 0, stdout + stderr
    *_, log = sorted(tmp_path.glob("outputs/runs/*/*/pipeline.log"))
    assert "on 1 ranks instead of 2" in log.read_text()
    assert not list(tmp_path.glob("outputs/store/.scratch/*"))


STOP = tuple(
    f"stages.{name}=null"
    for name in ("capture", "baseline", "observe", "calibrate", "convert", "describe", "evaluate", "parity",
                 "export", "runtimes", "verdict", "report", "verify")
)  # fmt: skip


def test_processes_that_are_not_to_be_one_run_are_refused_once(tmp_path):
    code, _, stderr = run(tmp_path, 2)
    assert code == 1
    assert stderr.count("2 processes were started together") == 1
    assert "torchrun --nproc-per-node=2 -m pipeline training.distributed=ddp" in stderr
    assert "Traceback" not in stderr.partition("torch/distributed")[0]


def _rank(number: int, folder: Path) -> int:
    """The process of a rank of the run that was started in `folder`."""
    for process in Path("/proc").iterdir():
        try:
            there = process.name.isdecimal() and (process / "cwd").resolve() == folder
            if there and f"RANK={number}" in (process / "environ").read_text().split("\0"):
                return int(process.name)
        except OSError:
            continue
    raise AssertionError(f"no rank {number} in {folder}")
