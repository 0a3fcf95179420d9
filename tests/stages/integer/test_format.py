import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from safetensors.numpy import load_file, save_file

from stages.integer.format import load_program, save_program
from stages.integer.program import FORMAT_VERSION, Op, Program, Value
from tests.stages.integer.strategies import MODES, programs


@settings(max_examples=60, deadline=None)
@given(program=programs(modes=MODES))
def test_loading_gives_back_what_was_saved(
    program: Program, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("program")
    save_program(program, directory)
    loaded = load_program(directory)
    assert replace(loaded, ops=()) == replace(program, ops=())
    for actual, expected in zip(loaded.ops, program.ops, strict=True):
        assert replace(actual, tensors={}) == replace(expected, tensors={})
        assert actual.tensors.keys() == expected.tensors.keys()
        for name, tensor in expected.tensors.items():
            assert actual.tensors[name].dtype == tensor.dtype
            assert (actual.tensors[name] == tensor).all()
    # to the same bytes again: a run that finds its program stored leaves the files of one that made it
    again = tmp_path_factory.mktemp("again")
    save_program(loaded, again)
    for file in directory.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    levels = {"scale": 0.1, "zero_point": 0, "quant_min": 0, "quant_max": 255}
    values = {name: Value(name=name, shape=(2, 1, 1), **levels) for name in ("x", "y")}
    op = Op(
        op="conv2d",
        inputs=("x",),
        output="y",
        attrs={
            "stride": (1, 1),
            "padding": (0, 0),
            "dilation": (1, 1),
            "groups": 1,
            "act_min": 0,
            "act_max": 255,
        },
        tensors={
            "weight": np.ones((2, 2, 1, 1), np.int8),
            "weight_scale": np.ones(1, np.float32),
            "weight_zero_point": np.zeros(1, np.int32),
            "bias": np.zeros(2, np.int32),
            "multiplier": np.full(1, 2**30, np.int32),
            "shift": np.zeros(1, np.int32),
            "ratio": np.full(1, 0.5, np.float32),
        },
    )
    save_program(Program(values=values, ops=(op,), input="x", output="y"), tmp_path)
    return tmp_path


def _edit(directory: Path, change) -> None:
    path = directory / "program.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_usual_attributes_are_left_out(saved: Path) -> None:
    document = json.loads((saved / "program.json").read_text())
    assert document["ops"][0]["attrs"] == {"act_min": 0, "act_max": 255}


def test_another_version_is_refused_with_a_remedy(saved: Path) -> None:
    _edit(saved, lambda document: document.update(format=99))
    with pytest.raises(ValueError, match=r"program\.json: format 99, .* reads format 3\. Remedy: convert"):
        load_program(saved)


def test_damaged_files_are_named(saved: Path) -> None:
    tensors = saved / "tensors.safetensors"
    content = tensors.read_bytes()
    tensors.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"tensors\.safetensors: not a readable safetensors file"):
        load_program(saved)
    tensors.unlink()
    with pytest.raises(ValueError, match=r"tensors\.safetensors: not a readable safetensors file"):
        load_program(saved)
    (saved / "program.json").write_text("{")
    with pytest.raises(ValueError, match=r"program\.json: not a readable integer program"):
        load_program(saved)
    (saved / "program.json").write_text("[]")
    with pytest.raises(ValueError, match=r"program\.json: not a readable integer program"):
        load_program(saved)


def test_missing_fields_are_named(saved: Path) -> None:
    _edit(saved, lambda document: document.pop("values"))
    with pytest.raises(ValueError, match=r"program\.json: 'values' is missing"):
        load_program(saved)


def test_unknown_operators_list_the_alternatives(saved: Path) -> None:
    _edit(saved, lambda document: document["ops"][0].update(op="conv3d"))
    with pytest.raises(ValueError, match=r"unknown operator 'conv3d'; did you mean 'conv2d'\? valid: add, "):
        load_program(saved)


def test_tensors_of_another_program_are_refused(saved: Path) -> None:
    _edit(saved, lambda document: document["values"]["x"].update(shape=[3, 1, 1]))
    with pytest.raises(ValueError, match=r"program\.json: 'y' \(conv2d\): weight of shape \(2, 2, 1, 1\)"):
        load_program(saved)


def test_tensors_of_a_shorter_or_longer_program_are_refused(saved: Path) -> None:
    arrays = load_file(saved / "tensors.safetensors")
    save_file({**arrays, "int32": arrays["int32"][:-1]}, saved / "tensors.safetensors")
    with pytest.raises(ValueError, match=r"program\.json: tensor 'shift' .* goes beyond the file's int32"):
        load_program(saved)
    save_file({**arrays, "int32": np.zeros(9, np.int32)}, saved / "tensors.safetensors")
    with pytest.raises(ValueError, match=r"program\.json: 4 numbers too many among the int32 numbers"):
        load_program(saved)


def test_files_are_hardly_larger_than_what_they_hold(tmp_path: Path) -> None:
    """Twenty layers of 40 channels, as of a small ResNet: 1.05 times their integers at the most."""
    channels, layers = 40, 20
    levels = {"scale": 0.0123456789, "zero_point": 0, "quant_min": 0, "quant_max": 255}
    names = ["x", *(f"layer{i}.conv" for i in range(layers))]
    values = {name: Value(name=name, shape=(channels, 8, 8), **levels) for name in names}
    weight = np.random.default_rng(0).integers(-127, 128, (channels, channels, 3, 3)).astype(np.int8)
    tensors = {
        "weight": weight,
        "weight_scale": np.ones(channels, np.float32),
        "weight_zero_point": np.zeros(1, np.int32),
        "bias": np.zeros(channels, np.int32),
        "multiplier": np.full(channels, 2**30, np.int32),
        "shift": np.zeros(channels, np.int32),
        "ratio": np.full(channels, 0.5, np.float32),
    }
    attrs = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    attrs |= {"act_min": 0, "act_max": 255}
    ops = tuple(
        Op(op="conv2d", inputs=(source,), output=name, attrs=attrs, tensors=tensors)
        for source, name in pairwise(names)
    )
    save_program(Program(values=values, ops=ops, input="x", output=names[-1]), tmp_path)
    on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    integers = layers * sum(tensor.nbytes for name, tensor in tensors.items() if name != "ratio")
    assert on_disk <= 1.05 * integers


@pytest.mark.parametrize("name", ["program.json", "tensors.safetensors"])
def test_a_fifo_or_device_is_not_opened(name, tmp_path):
    (tmp_path / "program.json").write_text(f'{{"format": {FORMAT_VERSION}}}')
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()):
        path = tmp_path / name
        path.unlink(missing_ok=True)
        make(path)
        with pytest.raises(ValueError, match=rf"{name}: not a readable .*\(is no regular file\)"):
            load_program(tmp_path)
