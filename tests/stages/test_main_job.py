"""The main job as a user runs it: ``python -m pipeline`` in a process of its own, on real digits."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from stages.artifacts import IntegerProgram
from stages.data.batches import batches
from stages.data.digits import Digits

ROOT = Path(__file__).parents[2]
QUICK = (
    "training.float.epochs=2",
    "calibration.samples=64",
    "evaluate.parity_samples=100",
    "threads=1",
    "speed.seconds=0.2",
)
NAMES = {
    "float/top1", "simulated/top1", "integer/top1", "integer/agreement", "integer/sqnr_db",
    "float/images_per_second", "simulated/images_per_second", "integer/images_per_second",
    "integer/images_per_second_low", "integer/images_per_second_high", "speed/threads", "integer/tied_top1",
    "parity/max_off_by", "parity/worst_equal_share", "parity/backend_max_off_by", "parity/samples",
    "rounding/float/equal_share", "rounding/fixed_point/top1", "rounding/fixed_point_single/equal_share",
    "model/float_bytes", "model/integer_bytes", "model/compression",
    "stage/train/seconds", "stage/train/cached", "stage/evaluate/seconds", "stage/evaluate/cached",
}  # fmt: skip


def command(*overrides):
    return [sys.executable, "-m", "pipeline", *QUICK, *overrides]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(folder: Path, *overrides: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*overrides), cwd=folder, env=environment(), capture_output=True, text=True, timeout=240
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("outputs/runs/*/*"))


def metrics(run_dir: Path) -> dict[str, float]:
    return json.loads((run_dir / "metrics.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the default job has run once, recorded in MLflow."""
    folder = tmp_path_factory.mktemp("main_job")
    run(folder, "tracking=mlflow")
    return folder


def test_the_run_directory_holds_what_the_readme_promises(finished):
    (run_dir,) = runs(finished)
    for name in ("metrics.json", "report.html", "parity.json", "rounding.json", "predictions.safetensors"):
        assert (run_dir / name).is_file(), name
    assert (run_dir / "program/program.json").is_file() and (run_dir / ".hydra/config.yaml").is_file()
    assert set(metrics(run_dir)) >= NAMES


def test_mlflow_has_exactly_what_metrics_json_has(finished):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{finished / 'outputs/mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == "FINISHED"
    assert record.data.metrics.items() >= metrics(runs(finished)[0]).items()


def test_the_saved_program_gives_the_measured_accuracy(finished):
    """Loaded in another process, on either backend, the program's top-1 is the run's integer/top1."""
    (run_dir,) = runs(finished)
    program = IntegerProgram.load(run_dir / "program")
    data = Digits()
    test = data.test()
    (x, y) = next(iter(batches(test, len(test), data)))
    for backend in ("reference", "onednn", "native"):
        logits = program.run(x.numpy(), backend=backend)
        top1 = float((logits.argmax(1) == y.numpy()).mean())
        assert top1 == pytest.approx(metrics(run_dir)["integer/top1"], abs=1.01 / len(test))
    assert logits.dtype == np.float32


def test_a_second_run_computes_nothing_again(finished):
    run(finished, "tracking=none")
    again = metrics(runs(finished)[-1])
    cached = {name: value for name, value in again.items() if name.endswith("/cached")}
    for every_time in ("describe", "speed", "report", "verify"):
        assert cached.pop(f"stage/{every_time}/cached") == 0.0
    assert set(cached.values()) == {1.0}


def test_another_scheme_reuses_model_and_observations(finished):
    run(finished, "tracking=none", "quantizer=affine", "granularity=per_tensor", "calibration=percentile")
    other = metrics(runs(finished)[-1])
    cached = {
        stage: other[f"stage/{stage}/cached"]
        for stage in ("train", "capture", "baseline", "observe", "calibrate", "convert")
    }
    assert [stage for stage, value in cached.items() if value] == ["train", "capture", "baseline", "observe"]


def test_integers_are_the_simulation_in_every_value_of_every_layer(finished):
    """The contract's default on an exact backend, in each mode of requantization."""
    for mode in ("float", "fixed_point", "fixed_point_single"):
        run(finished, "tracking=none", f"convert.requantize={mode}")
        last = metrics(runs(finished)[-1])
        assert (last["parity/max_off_by"], last["parity/worst_equal_share"]) == (0.0, 1.0)
        assert (last["parity/backend_max_off_by"], last["integer/agreement"]) == (0.0, 1.0)


def test_a_backend_that_rounds_otherwise_keeps_the_tolerance_that_it_declares(finished):
    done = run(finished, "tracking=none", "backend=onednn", "convert.requantize=fixed_point")
    assert "note: backend onednn rounds fixed_point in its own way" in " ".join(done.stdout.split())
    page = (runs(finished)[-1] / "report.html").read_text()
    assert "Demanded: agreement of at least 90.00%; backend onednn rounds fixed_point in its own way" in page


@pytest.mark.skipif(find_spec("ziglang") is not None, reason="ziglang brings a compiler")
def test_without_a_compiler_the_job_runs_whole_and_says_what_may_differ(finished):
    without = {**environment(), "CXX": "no-such-compiler"}
    anew = command("tracking=none", "backend.batch_size=50")  # what the engine gave is in the store
    done = subprocess.run(anew, cwd=finished, env=without, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "note: backend native: there is no C++ compiler" in said
    assert "note: backend onednn rounds float in its own way" in said
    assert metrics(runs(finished)[-1])["integer/agreement"] >= 0.9


def test_a_broken_contract_fails_the_run_but_records_it(finished):
    rounds_otherwise = ("backend=onednn", "convert.requantize=fixed_point")
    done = run(finished, "tracking=none", *rounds_otherwise, "evaluate.max_off_by=0", check=False)
    assert done.returncode == 1
    assert "above evaluate.max_off_by=0. Worst layer: '" in done.stderr
    assert "Parity broken." in (runs(finished)[-1] / "report.html").read_text()
    assert "Traceback" not in done.stderr
    last = runs(finished)[-1]
    assert (last / "report.html").is_file()
    assert metrics(last)["parity/max_off_by"] >= 1


def test_a_saved_program_is_measured_without_its_network(finished):
    (run_dir, *_) = runs(finished)
    folder = run_dir.relative_to(finished) / "program"
    run(finished, "tracking=none", "experiment=evaluate_program", f"program={folder}")
    before, alone = metrics(run_dir), metrics(runs(finished)[-1])
    same = (
        "integer/top1",
        "integer/tied_top1",
        "parity/max_off_by",
        "rounding/fixed_point/top1",
        "test/samples",
    )
    assert {name: alone[name] for name in same} == {name: before[name] for name in same}
    assert "float/top1" not in alone
    assert (runs(finished)[-1] / "report.html").is_file()


@pytest.mark.parametrize(
    "kind",
    ["float_model", "baseline", "observations", "quantized_model", "integer_program", "metrics", "parity"],
)
def test_kill_during_a_stage_then_the_same_command_completes(tmp_path, kind):
    """kill -9 while an artifact of `kind` is computed; then all finished stages are taken from the store."""
    process = subprocess.Popen(
        command("tracking=none"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    locks = tmp_path / "outputs/store/.locks"
    deadline = time.monotonic() + 200
    while not list(locks.glob(f"{kind}.*")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path.parent.name for path in tmp_path.glob("outputs/store/*/*") if path.parent.name[0] != "."}
    run(tmp_path, "tracking=none")
    result = metrics(runs(tmp_path)[-1])
    assert result["integer/agreement"] == 1.0
    order = ["trained_model", "float_model", "baseline", "observations", "quantized_model"]
    order += ["integer_program", "metrics", "parity", "roundings", "verdict"]
    stages = ["train", "capture", "baseline", "observe", "calibrate", "convert", "evaluate"]
    stages += ["parity", "rounding", "verdict"]
    for artifact, stage in zip(order, stages, strict=True):
        assert result[f"stage/{stage}/cached"] == float(artifact in before), (stage, before)
    assert set(order[: order.index(kind)]) <= before
