"""The same configuration and seed give the same bytes, whoever works on it; asked for, on any threads too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stages.data.decode
import stages.data.inputs
from stages.data.image_folder import image_folder
from stages.quant.noise import uniform_noise

ROOT = Path(__file__).parents[2]
KINDS = ("trained_model", "observations", "quantized_model", "integer_program")


def run(folder: Path, *overrides: str, threads: int) -> dict[str, str]:
    """The hashes of what a run makes, by kind, from an empty store; its program's as files too."""
    folder.mkdir()
    quick = (
        "training.float.epochs=1",
        "calibration.samples=64",
        "evaluate.parity_samples=16",
        "evaluate.samples=64",
    )
    least = ("stages.speed=null", "stages.report=null", "tracking=none", "stages.rounding=null")
    chosen = [f"threads={threads}", "quantizer=stochastic", *quick, *least, *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-m", "pipeline", *chosen]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for manifest in sorted((folder / "outputs" / "store").glob("*/*/manifest.json")):
        for name, file in sorted(json.loads(manifest.read_text())["files"].items()):
            found[f"{manifest.parts[-3]}/{name}"] = str(file)
    for path in sorted(folder.glob("outputs/runs/*/*/program/*")):
        found[f"program/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert {name.split("/")[0] for name in found} >= {*KINDS, "program"}
    return found


def test_a_deterministic_run_gives_the_same_bytes_on_any_number_of_threads(tmp_path):
    one = run(tmp_path / "1", "deterministic=true", threads=1)
    three = run(tmp_path / "3", "deterministic=true", threads=3)
    assert one == three


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_images_are_the_same_whoever_decodes_them(tmp_path, monkeypatch, workers):
    rng = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9 + number % 5, 11, 3), np.uint8)).save(path)
    for module in (stages.data.decode, stages.data.inputs):
        monkeypatch.setattr(module, "available_cores", lambda: workers)
    root = tmp_path / "images"
    split = image_folder(train=root, test=root, cache=tmp_path / "cache", resize=8, crop=8).train()
    digest = hashlib.sha256(np.ascontiguousarray(split.images).tobytes() + np.asarray(split.labels).tobytes())
    monkeypatch.setattr(stages.data.decode, "available_cores", lambda: 1)
    alone = image_folder(train=root, test=root, cache=tmp_path / "alone", resize=8, crop=8).train()
    assert (
        digest.digest()
        == hashlib.sha256(
            np.ascontiguousarray(alone.images).tobytes() + np.asarray(alone.labels).tobytes()
        ).digest()
    )


def test_noise_is_a_function_of_seed_name_and_draw_whoever_draws_it():
    like = torch.zeros(50, 7)
    asked = [(seed, name, draw) for seed in (0, 1) for name in ("a", "b") for draw in (0, 1, 2)]
    alone = {key: uniform_noise(like, *key).numpy().tobytes() for key in asked}
    with ThreadPoolExecutor(3) as pool:
        torch.manual_seed(5)  # no state of a generator takes part
        drawn = dict(
            zip(
                reversed(asked), pool.map(lambda key: uniform_noise(like, *key), reversed(asked)), strict=True
            )
        )
    assert {key: noise.numpy().tobytes() for key, noise in drawn.items()} == alone
    assert len(set(alone.values())) == len(asked)
