"""A logged program answers requests, over REST too, with what `IntegerProgram.run` gives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from pipeline.console import Console
from pipeline.tracking.mlflow import MLflow, mlflow_client
from stages.artifacts import IntegerProgram
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.program import Op, Program, Value

ROOT = Path(__file__).parents[2]


def a_program() -> IntegerProgram:
    """One linear layer: 2×3 pixels to 4 logits."""
    rng = np.random.default_rng(0)
    ratio = 0.02 * 0.01 / 0.05
    multiplier, shift = quantize_multiplier(ratio)
    image = Value(name="x", shape=(1, 2, 3), scale=0.02, zero_point=10, quant_min=0, quant_max=255)
    flat = Value(name="flat", shape=(6,), scale=0.02, zero_point=10, quant_min=0, quant_max=255)
    logits = Value(name="y", shape=(4,), scale=0.05, zero_point=3, quant_min=-128, quant_max=127)
    linear = Op(
        op="linear",
        inputs=("flat",),
        output="y",
        attrs={"act_min": -128, "act_max": 127},
        tensors={
            "weight": rng.integers(-127, 128, (4, 6)).astype(np.int8),
            "weight_scale": np.array([0.01], np.float32),
            "weight_zero_point": np.zeros(1, np.int32),
            "bias": rng.integers(-1000, 1000, 4).astype(np.int32),
            "multiplier": np.array([multiplier], np.int32).reshape(1),
            "shift": np.array([shift], np.int32).reshape(1),
            "ratio": np.array([ratio], np.float32),
        },
    )
    reshape = Op(op="reshape", inputs=("x",), output="flat", attrs={"shape": (6,)})
    values = {value.name: value for value in (image, flat, logits)}
    return IntegerProgram(program=Program(values=values, ops=(reshape, linear), input="x", output="y"))


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A program, and the folder of the model that MLflow keeps of it."""
    folder = tmp_path_factory.mktemp("served")
    program = a_program()
    program.write_files(folder)
    tracking = MLflow(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts=folder / "files")
    tracker = tracking.open(folder, Console(quiet=True))
    tracker.model(program.served(folder))
    tracker.model(program.served(folder))  # as a run does that was killed in between
    tracker.finish()
    client = mlflow_client(tracking.uri)
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == tracking.experiment]
    (model,) = client.search_logged_models([experiment])
    assert (model.name, model.source_run_id, str(model.status)) == ("program", tracker.run_id, "READY")
    assert [output.model_id for output in client.get_run(tracker.run_id).outputs.model_outputs] == [
        model.model_id
    ]
    return program, Path(model.artifact_location.removeprefix("file://"))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 6, (count, 1, 2, 3)).astype(np.float32)


def test_a_logged_model_has_a_signature_an_example_and_no_pickle(logged):
    from mlflow.models import Model

    _, folder = logged
    description = Model.load(str(folder))
    assert str(description.signature.inputs) == "[Tensor('float32', (-1, 1, 2, 3))]"
    assert str(description.signature.outputs) == "[Tensor('float32', (-1, 4))]"
    assert description.load_input_example(str(folder)).shape == (1, 1, 2, 3)
    names = {path.name for path in folder.rglob("*")}
    assert {"program.json", "tensors.safetensors"} <= names
    assert not {name for name in names if name.endswith((".pkl", ".pickle", ".pt"))}


@pytest.mark.parametrize("backend", [None, "reference", "onednn", "native"])
def test_a_loaded_model_predicts_what_the_program_gives(logged, backend):
    import mlflow

    program, folder = logged
    params = None if backend is None else {"backend": backend}
    predicted = mlflow.pyfunc.load_model(str(folder)).predict(images(5), params)
    assert (predicted == program.run(images(5), backend=backend or "reference")).all()
    assert predicted.std() > 0


def test_a_server_answers_a_request_with_the_same_logits(logged):
    program, folder = logged
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = ["models", "serve", "-m", str(folder), "--env-manager", "local", "-p", str(port)]
    # MLflow finds uvicorn on PATH, as in an activated environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with subprocess.Popen(
        [sys.executable, "-m", "mlflow", *serve],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as server:
        try:
            _wait(f"http://127.0.0.1:{port}/ping", server)
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations",
                data=json.dumps({"inputs": images(3).tolist()}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                predictions = json.load(response)["predictions"]
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
    assert (np.asarray(predictions, dtype=np.float32) == program.run(images(3))).all()


def _wait(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while True:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}:\n{server.stdout.read().decode()}")
        assert time.monotonic() < deadline, f"no answer from {url}"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
