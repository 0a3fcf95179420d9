"""Sizes and types that no kernel should meet are refused where the program is read."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from stages.integer.format import load_program, save_program
from stages.integer.limits import MAX_ELEMENTS, MAX_OPERATORS
from stages.integer.program import Op, Program, Value

LEVELS = {"scale": 0.1, "zero_point": 3, "quant_min": 0, "quant_max": 254}


def _saved(folder: Path, op: str, shape: tuple[int, ...], y: tuple[int, ...], attrs: dict[str, Any]) -> Path:
    values = {name: Value(name=name, shape=size, **LEVELS) for name, size in (("x", shape), ("y", y))}
    operator = Op(op=op, inputs=("x",), output="y", attrs=attrs)
    save_program(Program(values=values, ops=(operator,), input="x", output="y"), folder)
    return folder


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    attrs = {"kernel": (2, 2), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "ceil_mode": False}
    return _saved(tmp_path, "max_pool2d", (1, 4, 4), (1, 3, 3), attrs)


def _refused(folder: Path, change: Any, text: str) -> None:
    """The changed program is refused at once, in one line that says `text`."""
    path = folder / "program.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    start = time.perf_counter()
    with pytest.raises(ValueError, match=text) as refusal:
        load_program(folder)
    assert "\n" not in str(refusal.value) and time.perf_counter() - start < 5.0


@pytest.mark.parametrize("name", ["kernel", "stride", "padding", "dilation"])
@pytest.mark.parametrize("number", [2**31, 2**32, 2**33 + 1, 10**30, 1.0, 0.5, True, "2", None, [2]])
def test_no_window_has_numbers_that_the_engines_fields_do_not_hold(pool, name, number):
    def change(document):
        document["ops"][0].setdefault("attrs", {})[name] = [number, 1]

    _refused(pool, change, rf"'y' \(max_pool2d\): {name}=.*two integers \(height, width\), at most 16777216")


@pytest.mark.parametrize("field", ["zero_point", "levels"])
@pytest.mark.parametrize("number", [0.5, 1.0, True, "1", None])
def test_levels_are_integers(pool, field, number):
    def change(document):
        document["values"]["x"][field] = [0, number] if field == "levels" else number

    _refused(pool, change, r"value 'x': (zero_point|quant_max)=.*: must be an integer")


@pytest.mark.parametrize("size", [1.0, True, -1, "4", None])
def test_sizes_are_integers(pool, size):
    _refused(pool, lambda d: d["values"]["x"].update(shape=[1, size, 4]), r"value 'x': shape=.*integers")


def test_a_value_is_not_larger_than_memory(pool):
    shape = [2**14, 2**14, 2]
    _refused(pool, lambda d: d["values"]["x"].update(shape=shape), f"more than {MAX_ELEMENTS} elements")


def test_padding_is_counted_before_an_image_with_it_is_made(tmp_path):
    attrs = {"kernel": (2, 2), "stride": (1, 1), "padding": (1, 1)}
    bounds = {"act_min": 0, "act_max": 254}
    values = {
        name: Value(name=name, shape=shape, **LEVELS) for name, shape in (("x", (1, 1, 1)), ("y", (1, 2, 2)))
    }
    ratio = {
        "multiplier": np.array([2**30], np.int32),
        "shift": np.zeros(1, np.int32),
        "ratio": np.ones(1, np.float32),
    }
    op = Op(op="avg_pool2d", inputs=("x",), output="y", attrs=attrs | bounds, tensors=ratio)
    save_program(Program(values=values, ops=(op,), input="x", output="y"), tmp_path)

    def change(document):
        document["ops"][0]["attrs"].update(kernel=[40000, 40000], stride=[1, 1], padding=[20000, 20000])
        document["values"]["y"]["shape"] = [1, 2, 2]

    _refused(tmp_path, change, r"padding=\(20000, 20000\) around \(1, 1, 1\): gives more than")


def test_a_window_is_not_longer_than_a_life(pool):
    def change(document):
        document["values"]["x"]["shape"] = [1, 10000, 10000]
        document["values"]["y"]["shape"] = [1, 2, 2]
        document["ops"][0]["attrs"] = {"kernel": [9999, 9999], "stride": [1, 1]}

    _refused(pool, change, r"kernel=\(9999, 9999\): must be at most 65536 pixels, or the whole image")


def test_a_program_has_not_more_operators_than_a_network(pool):
    _refused(pool, lambda d: d.update(ops=d["ops"] * (MAX_OPERATORS + 1)), "operators: must be at most")


def test_a_file_of_brackets_is_no_program(pool):
    (pool / "program.json").write_text('{"format": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ValueError, match=r"program\.json: not a readable integer program"):
        load_program(pool)


def test_a_scale_beyond_floats_is_refused(pool):
    _refused(pool, lambda d: d["values"]["x"].update(scale=10**400), "program.json: ")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_numbers_that_numpy_lacks_are_refused(pool, dtype):
    save_torch({"int8": torch.ones(3).to(dtype)}, pool / "tensors.safetensors")
    with pytest.raises(ValueError, match=r"tensors\.safetensors: "):
        load_program(pool)


def test_the_file_holds_exactly_what_operators_name(pool):
    save_file({"int64": np.zeros(0, np.int64)}, pool / "tensors.safetensors")
    with pytest.raises(ValueError, match="holds int64 numbers, which no operator has"):
        load_program(pool)
    save_file({"int8": np.zeros(3, np.float32)}, pool / "tensors.safetensors")
    with pytest.raises(ValueError, match=r"'int8' is float32 \(3,\): must be a row of int8"):
        load_program(pool)
    assert set(load_file(pool / "tensors.safetensors")) == {"int8"}  # neither is read in parts
