"""A logged program answers requests, over REST too, with what `IntegerProgram.run` gives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.console import Console
from pipeline.tracking.mlflow import MLflow
from pipeline.tracking.mlflow_client import mlflow_client
from stages.artifacts import IntegerProgram, integer_program
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.program import Op, Program, Value
from stages.serving import ServedProgram

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
def recorded(tmp_path_factory):
    """A program, the folder of the model that MLflow keeps of it, and the command that the run ends with."""
    folder = tmp_path_factory.mktemp("served")
    program = a_program()
    program.write_files(folder)
    tracking = MLflow(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts=folder / "files")
    tracker = tracking.open(folder, Console(quiet=True), {})
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
    shown, command = tracker.where().splitlines()
    assert shown.startswith("mlflow ui") and command.startswith("serve: MLFLOW_TRACKING_URI=sqlite:///")
    return program, Path(model.artifact_location.removeprefix("file://")), command.removeprefix("serve: ")


@pytest.fixture
def logged(recorded):
    """A program, and the folder of the model that MLflow keeps of it."""
    return recorded[:2]


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


@contextmanager
def served(arguments: list[str] | str):
    """A server's address, while it runs; ``PORT`` in its arguments is a free one. Text is for a shell."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # MLflow finds uvicorn on PATH, as in an activated environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = (
        ["sh", "-c", arguments.replace("PORT", str(port))]
        if isinstance(arguments, str)
        else [sys.executable, "-m", *(str(port) if word == "PORT" else word for word in arguments)]
    )
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as server:
        try:
            _wait(f"http://127.0.0.1:{port}/ping", server)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)


def answer(url: str, body: bytes, kind: str | None = "application/json") -> tuple[int, str]:
    """Status and text."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": kind} if kind else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


WRONG = {
    "NaN": ("[[[[NaN, 0, 0], [0, 0, 0]]]]", "holds NaN or infinity"),
    "infinity": ("[[[[0, 0, -Infinity], [0, 0, 0]]]]", "holds NaN or infinity"),
    "beyond float32": ("[[[[0, 0, 1e300], [0, 0, 0]]]]", "holds NaN or infinity"),
    "shape": ("[[[[1, 2], [3, 4]]]]", "shape"),
    "rank": ("[1, 2, 3]", "shape"),
    "ragged": ("[[[[1, 2, 3], [4, 5]]]]", ""),
    "empty": ("[]", ""),
    "text": ('[[[["a", "b", "c"], ["a", "b", "c"]]]]', ""),
    "numbers as text": ('"many"', ""),
    "null": ("null", ""),
    "names": ('{"a": [1, 2, 3]}', ""),
    "objects": ("[{}]", ""),
    "too many": (json.dumps(np.zeros((4097, 1, 2, 3)).tolist()), "4097 samples; must be 1 .. 4096"),
}
"""What a request may give as inputs, and a part of the reason."""


def test_a_server_answers_with_the_same_logits_and_refuses_with_a_reason(recorded):
    """By the command that the run printed, in a new shell and another folder."""
    program, _, command = recorded
    serve = f"cd / && {command} -p PORT"
    expected = program.run(images(3))
    good = json.dumps({"inputs": images(3).tolist()}).encode()
    with served(serve) as url:
        for name, (inputs, reason) in WRONG.items():
            status, text = answer(url, f'{{"inputs": {inputs}}}'.encode())
            assert status == 400 and reason in text, (name, status, text)
        for body, kind in (
            (b"", "application/json"),
            (b"{", "application/json"),
            (b"\xff", "application/json"),
            (b"[]", "application/json"),
            (b'{"inputs": [[[[1, 2, 3], [4, 5, 6]]]], "params": {"backend": "x"}}', "application/json"),
            (b'{"inputs": [[[[1, 2, 3], [4, 5, 6]]]], "params": {"backend": [1]}}', "application/json"),
            (b'{"dataframe_split": {"columns": ["a"], "data": [[1]]}}', "application/json"),
            (b"a,b\n1,2\n", "text/csv"),
            (b"x", "text/plain"),
        ):
            status, text = answer(url, body, kind)
            assert 400 <= status < 500 and text, (body, status, text)
        with ThreadPoolExecutor(8) as pool:  # after all that, and at once
            answers = list(pool.map(lambda _: answer(url, good), range(8)))
    for status, text in answers:
        assert status == 200
        assert (np.asarray(json.loads(text)["predictions"], dtype=np.float32) == expected).all()


def test_a_bounded_server_leaves_a_gigabyte_unread(logged):
    program, folder = logged
    good = json.dumps({"inputs": images(3).tolist()}).encode()
    with served(["pipeline.serve", "--model", str(folder), "--port", "PORT", "--max-bytes", "5000"]) as url:
        host = url.split("/")[2]
        with socket.create_connection(host.split(":")) as client:  # says it, and need not send it
            head = f"POST /invocations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {2**30}\r\n\r\n".encode() + b"[" * 2**16)
            assert b"413" in client.recv(2**16).splitlines()[0]
        assert answer(url, good + b" " * 5000)[0] == 413
        status, text = answer(url, good)
    assert status == 200
    assert (np.asarray(json.loads(text)["predictions"], dtype=np.float32) == program.run(images(3))).all()


@pytest.mark.parametrize("backend", ["reference", "onednn", "native"])
def test_eight_requests_at_once_are_one_to_the_bit(logged, backend):
    import mlflow

    _, folder = logged
    model = mlflow.pyfunc.load_model(str(folder))  # nothing is compiled yet: they meet there too
    inputs = [images(3 + 40 * number) for number in range(8)]
    together = threading.Barrier(8)

    def ask(x: np.ndarray) -> list[np.ndarray]:
        together.wait()
        return [model.predict(x, {"backend": backend}) for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, inputs))
    alone = mlflow.pyfunc.load_model(str(folder))
    for x, given in zip(inputs, answers, strict=True):
        expected = alone.predict(x, {"backend": backend})
        assert all((one == expected).all() for one in given)


@pytest.mark.parametrize("backend", ["reference", "onednn", "native"])
@pytest.mark.parametrize("warm", [False, True])
def test_workers_that_are_forked_answer_alike(backend, warm):
    program = a_program()
    expected = a_program().run(images(200), backend=backend)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            program.run(images(200), backend=backend)

    busy = threading.Thread(target=work) if warm else None  # within a call while the parent forks
    if busy is not None:
        program.run(images(200), backend=backend)
        busy.start()
    try:
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # a hang ends as a signal
                with ThreadPoolExecutor(2) as pool:
                    found = list(pool.map(lambda _: program.run(images(200), backend=backend), range(2)))
                os._exit(0 if all((one == expected).all() for one in found) else 1)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    finally:
        stop.set()
        if busy is not None:
            busy.join()


def test_a_fork_while_a_program_is_compiled_does_not_wait_for_it():
    program = a_program()
    with integer_program._COMPILING:
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os._exit(0 if program.run(images(2)).shape == (2, 4) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nan_is_refused_and_infinity_saturates_alike_on_every_backend():
    program, x = a_program(), images(3)
    x[1, 0, 1, 2] = np.inf
    x[2, 0, 0, 0] = -np.inf
    answers = [program.run(x, backend=backend) for backend in ("reference", "onednn", "native")]
    largest = np.where(np.isinf(x), np.copysign(1e6, x), x).astype(np.float32)
    for answer in answers:
        assert (answer == program.run(largest)).all()
    x[1, 0, 1, 2] = np.nan
    for backend in ("reference", "onednn", "native"):
        with pytest.raises(ValueError, match="input: sample 1 of 3 holds NaN, for which no level stands"):
            program.run(x, backend=backend)


@pytest.mark.parametrize("value", [0, -1, 2.5, "many", True])
def test_a_limit_is_a_whole_number(value):
    with pytest.raises(ValueError, match=r"max_samples=.*: must be an integer of at least 1"):
        ServedProgram(program=a_program(), max_samples=value)


def test_a_limit_is_the_models_or_that_of_who_serves(logged):
    import mlflow

    _, folder = logged
    with pytest.raises(mlflow.MlflowException, match=r"inputs: 5 samples; must be 1 .. 4. Remedy: send them"):
        mlflow.pyfunc.load_model(str(folder), model_config={"max_samples": 4}).predict(images(5))


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
