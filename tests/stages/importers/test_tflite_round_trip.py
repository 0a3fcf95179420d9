"""What the exporter writes is read as a program of the same integers, and of the same operators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.exporters.tflite_file.model import problems, program_to_tflite
from stages.importers.tflite import program_of
from stages.importers.tflite_file.contents import parse
from stages.importers.tflite_file.tidy import tidied
from stages.integer.interpreter import Interpreter
from stages.integer.program import Op, Program
from tests.stages.exporters.tflite_file.forms import OPS, in_form
from tests.stages.exporters.tflite_file.networks import value
from tests.stages.importers.test_tflite_operators import check
from tests.stages.importers.tflite_models import Tensor, constant, levels, network_of
from tests.stages.integer.strategies import programs, random_input

OF_IMAGES = ("conv2d", "avg_pool2d", "max_pool2d", "linear", "reshape", "add", "mean", "insert_zeros")
KEPT = tuple(op for op in OPS if op not in ("reshape", "permute", "mean", "amax", "insert_zeros"))
"""Operators that read the layout that they are written in: no other has to stand between them."""


def read_again(program: Program, batch: int = 1) -> Program:
    return program_of(parse(program_to_tflite(program, batch).data))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    program=st.one_of(
        programs(ops=OPS, modes=("fixed_point",), ranks=(1, 2, 3)),
        programs(ops=OF_IMAGES, modes=("fixed_point",), ranks=(3,)),
    ),
    seed=st.integers(0, 2**32 - 1),
    batch=st.sampled_from([1, 3]),
)
def test_every_program_that_is_written_gives_its_integers_when_it_is_read(program, seed, batch):
    program = in_form(program, seed)
    if program.output == program.input or problems(program):
        return
    again, q = read_again(program, batch), random_input(program, 5)
    assert again.requantize == "tflm"
    assert Interpreter(again).run(q).tolist() == Interpreter(program).run(q).tolist()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(program=programs(ops=KEPT, modes=("fixed_point",), ranks=(1, 2)), seed=st.integers(0, 2**32 - 1))
def test_operators_on_rows_are_read_as_what_they_were(program, seed):
    program = in_form(program, seed)
    if program.output == program.input or problems(program):
        return
    ops = [replace(op, inputs=(program.input,)) if op.op == "constant" else op for op in program.ops]
    program = replace(program, ops=tuple(ops))  # what a constant reads, it does not depend on
    again, own = (
        sorted(op.op.removeprefix("channel_") for op in one.ops if op.op not in ("permute", "reshape"))
        for one in (read_again(program), tidied(program))
    )
    assert again == own


def of_one(op: Op, *shapes: tuple[int, ...], scales: tuple[float, ...] = (0.0625, 0.0625)) -> Program:
    """A program of one operator, of the first shape to the second."""
    x, y = (value(name, shape, scale, 3) for name, shape, scale in zip("xy", shapes, scales, strict=True))
    op = replace(op, inputs=("x",), output="y")
    return Program(values={"x": x, "y": y}, ops=(op,), input="x", output="y", requantize="tflm")


RNG = np.random.default_rng(0)
TABLE = Op(op="table", inputs=(), output="", tensors={"table": RNG.integers(-128, 128, 256).astype(np.int8)})
ROWS = {"table": RNG.integers(-128, 128, (4, 256)).astype(np.int8)}
POOL = {"kernel": (3, 3), "dilation": (1, 1)}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "program",
    [
        of_one(TABLE, (4, 3, 5), (4, 3, 5), scales=(0.0625, 0.5)),
        of_one(TABLE, (7,), (7,)),
        *[
            of_one(
                Op(op="channel_table", inputs=(), output="", attrs={"axis": axis}, tensors=ROWS),
                *[tuple(4 if i == axis else 3 + i for i in range(rank))] * 2,
            )
            for rank, axis in ((3, 0), (3, 1), (3, 2), (2, 1), (1, 0))
        ],
        of_one(Op(op="insert_zeros", inputs=(), output="", attrs={"factor": (2, 3)}), (4, 3, 5), (4, 5, 13)),
        of_one(Op(op="insert_zeros", inputs=(), output="", attrs={"factor": (1, 2)}), (1, 3, 5), (1, 3, 9)),
        of_one(Op(op="insert_zeros", inputs=(), output="", attrs={"factor": (3, 1)}), (2, 4, 4), (2, 10, 4)),
        *[
            of_one(
                Op(
                    op="max_pool2d",
                    inputs=(),
                    output="",
                    attrs={**POOL, "stride": (2, 2), "padding": padding, "ceil_mode": ceil},
                ),
                (2, 8, 8),
                (2, *size),
            )
            for padding, ceil, size in (
                ((1, 1), False, (4, 4)),
                ((1, 0), False, (4, 3)),
                ((1, 1), True, (5, 5)),
            )
        ],
    ],
    ids=lambda one: one.ops[0].op if isinstance(one, Program) else str(one),
)
def test_what_takes_several_operators_of_tflite_is_one_again(program, batch):
    again = read_again(program, batch)
    assert len(again.ops) == 1
    (ours,), (theirs,) = program.ops, again.ops
    assert (theirs.op, dict(theirs.attrs)) == (ours.op, dict(ours.attrs))
    assert all(theirs.tensors[name].tolist() == array.tolist() for name, array in ours.tensors.items())
    assert program_to_tflite(again, batch).data == program_to_tflite(program, batch).data


def test_a_level_that_is_not_zero_around_a_value():
    pads = constant(np.array([[0, 0], [1, 2], [0, 1], [3, 0]], np.int32))
    level = constant(np.array([77], np.int8), 0.05, zero_point=3)
    check("PADV2", [levels(1, 5, 4, 3), pads, level], levels(1, 8, 5, 6), schema.PadV2OptionsT())


@pytest.mark.parametrize(("adj_x", "adj_y"), [(False, False), (True, False), (False, True)])
def test_products_of_two_values(adj_x, adj_y):
    first = (1, 2, 6, 5) if adj_x else (1, 2, 5, 6)
    second = RNG.integers(-128, 128, (1, 2, 4, 6) if adj_y else (1, 2, 6, 4)).astype(np.int8)
    right = constant(second, 0.02, zero_point=-4)
    options = schema.BatchMatMulOptionsT(adjX=adj_x, adjY=adj_y)
    check("BATCH_MATMUL", [levels(*first), right], levels(1, 2, 5, 4, scale=0.2), options)


def table_file(entries: np.ndarray, offset: int, fused: int = 0) -> bytes:
    """CAST, ADD and GATHER."""
    tensors = [
        levels(1, 4),
        Tensor(shape=(1, 4), dtype="int32"),
        constant(np.array([offset], np.int32)),
        Tensor(shape=(1, 4), dtype="int32"),
        constant(entries, 0.05, zero_point=3),
        levels(1, 4),
    ]
    cast = schema.CastOptionsT(inDataType=schema.TensorType.INT8, outDataType=schema.TensorType.INT32)
    operators = [
        ("CAST", (0,), 1, cast),
        ("ADD", (1, 2), 3, schema.AddOptionsT(fusedActivationFunction=fused)),
        ("GATHER", (4, 3), 5, schema.GatherOptionsT()),
    ]
    return network_of(tensors, operators)


def test_a_table_of_a_file_has_an_entry_for_each_level():
    entries = RNG.integers(-128, 128, 300).astype(np.int8)
    program = program_of(parse(table_file(entries, 140)))
    assert program.ops[0].tensors["table"].tolist() == entries[12:268].tolist()
    with pytest.raises(ValueError, match=r"GATHER \(t5\): looks up 12\.\.267 of 200 entries"):
        program_of(parse(table_file(entries[:200], 140)))
    with pytest.raises(ValueError, match=r"looks up -128\.\.127 of 300 entries"):
        program_of(parse(table_file(entries, 0)))


def test_a_sum_of_int32_that_is_no_place_in_a_table_is_refused():
    entries = RNG.integers(-128, 128, 300).astype(np.int8)
    with pytest.raises(ValueError, match=r"ADD \(t3\): places to look up are moved by ADD of an int32"):
        program_of(parse(table_file(entries, 140, fused=1)))
