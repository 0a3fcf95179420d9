"""Files that others quantized, read and computed as TFLite Micro computes them, in every tensor."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.backends.native import Native
from stages.exporters.tflite_file.model import program_to_tflite
from stages.importers.tflite import program_of, read_tflite
from stages.importers.tflite_file.contents import TfliteContents, parse
from stages.integer.interpreter import Interpreter
from stages.integer.program import Integers, Program
from tests.stages.exporters.tflite_file.networks import convolutional
from tests.stages.integer.strategies import random_input

SHARED = Path(__file__).parents[4] / "shared" / "models" / "tflite"
INT8 = ("ad01_int8", "conv_fc_mnist_int8", "kws_int8", "person_detect_int8")


def shared(name: str) -> Path:
    path = SHARED / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"data missing from ../shared: models/tflite/{name}.tflite")
    return path


def by_tflm(contents: TfliteContents, data: bytes, q: Integers) -> dict[str, Integers]:
    """Every tensor that tflite-micro computes, by name, images with channels first."""
    from tflite_micro import runtime

    config = runtime.InterpreterConfig.kPreserveAllTensors
    session = runtime.Interpreter.from_bytes(data, arena_size=4 << 20, intrepreter_config=config)
    found: dict[str, list[Integers]] = {}
    for sample in q:
        x = sample.transpose(1, 2, 0) if sample.ndim == 3 else sample
        session.set_input(np.ascontiguousarray(x[None]), 0)
        session.invoke()
        for op in contents.operators:
            (number,) = op.outputs
            tensor = contents.tensors[number]
            y = np.asarray(session.GetTensor(number, 0)["tensor_data"]).reshape(tensor.shape)[0]
            found.setdefault(tensor.name, []).append(y.transpose(2, 0, 1) if y.ndim == 3 else y)
    return {name: np.stack(samples) for name, samples in found.items()}


@pytest.mark.parametrize("name", INT8)
def test_every_tensor_of_a_network_quantized_elsewhere_is_tflite_micros(name):
    path = shared(name)
    program, contents = read_tflite(path), parse(path.read_bytes())
    assert program.requantize == "tflm"
    q = random_input(program, 20)
    expected, found = by_tflm(contents, path.read_bytes(), q), Interpreter(program).trace(q)
    assert len(expected) == len(contents.operators)
    for tensor, levels in expected.items():
        if "Reshape" in tensor and levels.shape[1] > 64:  # flattened, here with channels first
            levels, found[tensor] = np.sort(levels), np.sort(found[tensor])
        assert found[tensor].tolist() == levels.tolist(), tensor


def test_a_network_of_uint8_gives_litert_references_integers():
    from ai_edge_litert import interpreter as litert

    path = shared("mobilenet_v2_1.0_224_uint8")
    program = read_tflite(path)
    q = np.concatenate([random_input(program, 1), _photographs()])
    session = litert.Interpreter(
        str(path), experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF, num_threads=1
    )
    session.allocate_tensors()
    (first,), (last,) = session.get_input_details(), session.get_output_details()
    for sample, ours in zip(q, Interpreter(program).run(q), strict=True):
        session.set_tensor(first["index"], np.ascontiguousarray(sample.transpose(1, 2, 0)[None]))
        session.invoke()
        theirs = session.get_tensor(last["index"])[0]
        assert ours.tolist() == theirs.tolist()


def _photographs() -> Integers:
    """Two of ImageNet's samples, as the network's levels: its input's zero is grey."""
    archive = SHARED.parents[1] / "data" / "imagenet_200_224.zip"
    if not archive.exists():
        pytest.skip("data missing from ../shared: data/imagenet_200_224.zip")
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.lower().endswith((".jpeg", ".jpg", ".png")))
        images = [Image.open(io.BytesIO(opened.read(name))).convert("RGB") for name in names[:2]]
    return np.stack([np.asarray(image.resize((224, 224))).transpose(2, 0, 1) for image in images])


def test_the_native_engine_gives_the_same_integers():
    program = read_tflite(shared("kws_int8"))
    q = random_input(program, 8)
    executable = Native(threads=1).compile(program)
    expected = Interpreter(program).trace(q)
    for name, levels in executable.trace(q).items():
        assert levels.tolist() == expected[name].tolist(), name


def test_what_was_written_is_read_as_the_same_program():
    program: Program = convolutional()
    again = program_of(parse(program_to_tflite(program).data))
    assert list(again.values) == list(program.values)
    for name, value in program.values.items():
        assert (again.values[name].shape, again.values[name].scale) == (value.shape, value.scale), name
    q = random_input(program, 5)
    assert Interpreter(again).run(q).tolist() == Interpreter(program).run(q).tolist()


@pytest.mark.parametrize("size", [0, 3, 7, 8, 50, 1000])
def test_a_file_that_ends_early_is_refused(tmp_path, size):
    data = program_to_tflite(convolutional()).data
    path = tmp_path / "short.tflite"
    path.write_bytes(data[:size])
    with pytest.raises(ValueError, match=r"short\.tflite: (is damaged|is no TFL3 file)"):
        read_tflite(path)
