"""What operators without weights rely on is checked, and said, before anything runs."""

import numpy as np
import pytest

from stages.integer.fixed_point import quantize_multiplier
from stages.integer.interpreter import Interpreter, quantize_input
from stages.integer.program import Op, Program, Value
from stages.integer.validate import validate
from tests.stages.integer import oracle

SHAPE = (2, 3, 4)
BOUNDS = {"act_min": 0, "act_max": 200}
MULTIPLIER, SHIFT = quantize_multiplier(np.array([0.5]))
RATIO = {"multiplier": MULTIPLIER, "shift": SHIFT, "ratio": np.array([0.5], np.float32)}
RATIOS = {name: np.repeat(tensor, 2) for name, tensor in RATIO.items()}
SUM = {"headroom": 0, **BOUNDS}
TABLE = np.zeros(256, np.uint8)
FALLING = np.linspace(2**26, 0, 256).astype(np.int32)
INVERSE = np.array([2**22], np.int64)
GRID = {"rows": np.ones((5, 3), np.int32), "columns": np.ones((1, 4), np.int32)}
GAMMA, BETA = np.zeros(4, np.int32), np.zeros(4, np.int64)
NORM = {"epsilon": 5, "shift": 40, "narrow": 0, **BOUNDS}
GROUPS = {"groups": 2, **NORM}
RMS = {"axis": 2, "floor": 1, **NORM}


def program(
    op: str, shape: tuple[int, ...], attrs: dict, tensors: dict, other: tuple[int, ...] | None = None
):
    """One operator over x (2, 3, 4), and another value z of shape `other`, a constant."""
    levels = {"scale": 0.1, "zero_point": 3, "quant_min": 0, "quant_max": 200}
    shapes = {"x": SHAPE, "z": other or SHAPE, "y": shape}
    values = {name: Value(name=name, shape=s, **levels) for name, s in shapes.items()}
    constant = Op(
        op="constant", inputs=("x",), output="z", tensors={"levels": np.zeros(shapes["z"], np.uint8)}
    )
    two = ("multiply", "matmul", "add", "subtract", "maximum", "minimum")
    inputs = ("x", "z") if op in two else ("x",)
    tested = Op(op=op, inputs=inputs, output="y", attrs=attrs, tensors=tensors)
    return Program(values=values, ops=(constant, tested), input="x", output="y", requantize="float")


@pytest.mark.parametrize(
    "valid",
    [
        program("table", SHAPE, {}, {"table": TABLE}),
        program("channel_table", SHAPE, {"axis": 1}, {"table": np.stack([TABLE] * SHAPE[1])}),
        program("multiply", SHAPE, BOUNDS, RATIO, other=(2, 1, 1)),
        program("add", SHAPE, SUM, RATIOS, other=(1, 3, 1)),
        program("subtract", SHAPE, SUM, RATIOS, other=(1, 3, 4)),
        program("maximum", SHAPE, BOUNDS, RATIOS, other=(2, 1, 4)),
        program("minimum", SHAPE, BOUNDS, RATIOS),
        program("mean", (2, 4), {"axes": (1,), "keepdim": False, **BOUNDS}, RATIO),
        program("matmul", (2, 3, 5), BOUNDS, RATIO, other=(2, 4, 5)),
        program("softmax", SHAPE, {"axis": 2, **BOUNDS}, {"exponentials": FALLING, "inverse_scale": INVERSE}),
        program("layer_norm", SHAPE, NORM, {"gamma": GAMMA, "beta": BETA}),
        program("rms_norm", SHAPE, RMS, {"gamma": GAMMA}),
        program("group_norm", SHAPE, GROUPS, {"gamma": GAMMA[:2], "beta": BETA[:2]}),
        program("amax", (2, 4), {"axes": (1,), "keepdim": False}, {}),
        program("amin", (2, 1, 1), {"axes": (1, 2), "keepdim": True}, {}),
        program("permute", (4, 2, 3), {"axes": (2, 0, 1)}, {}),
        program("upsample_nearest", (2, 6, 4), {"factor": (2, 1)}, {}),
        program("insert_zeros", (2, 5, 10), {"factor": (2, 3)}, {}),
        program("take", (2, 3, 2), {"axis": 2, "indices": (3, 0)}, {}),
        program("resample", (2, 5, 1), BOUNDS, {**RATIO, **GRID}),
        program("matmul", (2, 3, 5), BOUNDS, RATIO, other=(1, 4, 5)),
    ],
    ids=lambda valid: valid.ops[1].op,
)
def test_valid_operators_pass_and_other_shapes_do_not(valid):
    validate(valid)
    y = valid.values["y"]
    wrong = Value(**{**vars(y), "shape": (*y.shape, 1)})
    with pytest.raises(ValueError, match=rf"'y' \({valid.ops[1].op}\): gives shape"):
        validate(Program(**{**vars(valid), "values": {**valid.values, "y": wrong}}))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            program("channel_table", SHAPE, {"axis": 0}, {"table": TABLE}),
            r"tensor 'table' is uint8 \(256,\): must be",
        ),
        (
            program("channel_table", SHAPE, {"axis": 0}, {"table": np.stack([TABLE + np.uint8(201)] * 2)}),
            r"spans 201",
        ),
        (
            program("channel_table", SHAPE, {"axis": 3}, {"table": np.stack([TABLE] * 4)}),
            r"axis=3: must be a dimension of its input \(2, 3, 4\)",
        ),
        (program("add", SHAPE, SUM, RATIOS, other=(2, 3, 5)), "dimensions must be equal or 1"),
        (program("subtract", SHAPE, SUM, RATIOS, other=(3, 4)), "dimensions must be equal or 1"),
        (
            program("maximum", SHAPE, BOUNDS, RATIO),
            r"tensor 'multiplier' is int32 \(1,\): must be int32 \(2,\)",
        ),
        (program("table", SHAPE, {}, {"table": TABLE[:9]}), r"tensor 'table' is uint8 \(9,\): must be"),
        (program("table", SHAPE, {}, {"table": TABLE + np.uint8(201)}), r"table spans 201\.\.201: must be"),
        (program("multiply", SHAPE, BOUNDS, RATIO, other=(2, 2, 1)), "dimensions must be equal or 1"),
        (program("multiply", SHAPE, BOUNDS, RATIO, other=(3, 4)), "dimensions must be equal or 1"),
        (
            program("mean", (2, 3), {"axes": (), "keepdim": False, **BOUNDS}, RATIO),
            r"axes=\(\): must be some",
        ),
        (program("mean", (2, 3), {"axes": (2, 1), "keepdim": False, **BOUNDS}, RATIO), "ascending"),
        (program("matmul", SHAPE, BOUNDS, RATIO, other=(2, 3, 5)), r"must be \(…, I, K\) and"),
        (
            program(
                "softmax", SHAPE, {"axis": 3, **BOUNDS}, {"exponentials": FALLING, "inverse_scale": INVERSE}
            ),
            r"axis=3: must be 0\.\.2",
        ),
        (
            program(
                "softmax",
                SHAPE,
                {"axis": 0, **BOUNDS},
                {"exponentials": FALLING[::-1].copy(), "inverse_scale": INVERSE},
            ),
            r"exponentials: must fall from 2\^26",
        ),
        (
            program(
                "softmax",
                SHAPE,
                {"axis": 0, **BOUNDS},
                {"exponentials": FALLING, "inverse_scale": INVERSE << 14},
            ),
            r"inverse_scale=68719476736: must be 1\.\.2\^35",
        ),
        (
            program("layer_norm", SHAPE, NORM, {"gamma": GAMMA + np.int32(2**25), "beta": BETA}),
            r"gamma spans 33554432\.\.33554432: must be within ±2\^24",
        ),
        (
            program("layer_norm", SHAPE, {**NORM, "epsilon": -1}, {"gamma": GAMMA, "beta": BETA}),
            r"epsilon=-1: must be 0\.\.2\^61-1",
        ),
        (
            program("layer_norm", SHAPE, {**NORM, "shift": 63}, {"gamma": GAMMA, "beta": BETA}),
            r"shift=63: must be 1\.\.62",
        ),
        (
            program("group_norm", SHAPE, {**GROUPS, "groups": 3}, {"gamma": GAMMA[:2], "beta": BETA[:2]}),
            r"groups=3: must divide the channels of its input \(2, 3, 4\)",
        ),
        (
            program("group_norm", SHAPE, GROUPS, {"gamma": GAMMA[:2], "beta": BETA[:2] + 2**62}),
            r"beta spans .*: must be within ±2\^61",
        ),
        (
            program("group_norm", SHAPE, {**GROUPS, "epsilon": -1}, {"gamma": GAMMA[:2], "beta": BETA[:2]}),
            r"epsilon=-1: must be 0\.\.2\^61-1",
        ),
        (program("rms_norm", SHAPE, {**RMS, "axis": 3}, {"gamma": GAMMA}), "axis=3 of an input of shape"),
        (program("rms_norm", SHAPE, {**RMS, "floor": 0}, {"gamma": GAMMA}), r"floor=0: must be 1\.\.2\^61-1"),
        (
            program("rms_norm", SHAPE, RMS, {"gamma": GAMMA + np.int32(2**25)}),
            r"gamma spans 33554432\.\.33554432: must be within ±2\^24",
        ),
        (program("amax", (2, 3), {"axes": (3,), "keepdim": False}, {}), r"axes=\(3,\): must be some"),
        (
            program("permute", SHAPE, {"axes": (0, 0, 1)}, {}),
            r"axes=\(0, 0, 1\): must be 0\.\.2 in some order",
        ),
        (
            program("upsample_nearest", SHAPE, {"factor": (0, 1)}, {}),
            r"factor=\(0, 1\): must be two integers",
        ),
        (program("take", SHAPE, {"axis": 3, "indices": (0,)}, {}), r"axis=3: must be 0\.\.2"),
        (
            program("take", SHAPE, {"axis": 1, "indices": (0, 3)}, {}),
            r"indices span 0\.\.3: must be within 0\.\.2",
        ),
        (program("take", SHAPE, {"axis": 1, "indices": (-1,)}, {}), r"indices span -1\.\.-1"),
        (
            program("resample", SHAPE, BOUNDS, {**RATIO, **GRID, "rows": GRID["columns"]}),
            r"rows \(1, 4\) and columns \(1, 4\): must be \(H', H\) and \(W', W\)",
        ),
        (
            program("resample", (2, 5, 1), BOUNDS, {**RATIO, **GRID, "rows": GRID["rows"] << 25}),
            r"rows has a weight of magnitude 33554432: must be within ±2\^24",
        ),
        (program("matmul", SHAPE, BOUNDS, RATIO, other=(3, 4, 5)), r"must be \(…, I, K\) and"),
        (
            program("embedding", (*SHAPE, 3), {}, {"table": np.zeros((9, 3), np.uint8)}),
            "numbers of its 9 rows",
        ),
        (program("insert_zeros", SHAPE, {"factor": (2,)}, {}), r"factor=\(2,\): must be two integers"),
    ],
)
def test_what_is_wrong_is_named(wrong, message):
    with pytest.raises(ValueError, match=rf"'y' \({wrong.ops[1].op}\): .*{message}"):
        validate(wrong)


def test_levels_of_a_constant_are_the_outputs():
    valid = program("permute", SHAPE, {"axes": (0, 1, 2)}, {})
    high = Op(op="constant", inputs=("x",), output="z", tensors={"levels": np.full(SHAPE, 201, np.uint8)})
    with pytest.raises(
        ValueError, match=r"'z' \(constant\): levels span 201\.\.201: must be within 0\.\.200"
    ):
        validate(Program(**{**vars(valid), "ops": (high, valid.ops[1])}))


def masked(keep: tuple[int, ...]) -> Program:
    own = program(
        "softmax", SHAPE, {"axis": 2, **BOUNDS}, {"exponentials": FALLING, "inverse_scale": INVERSE}, keep
    )
    softmax = Op(**{**vars(own.ops[1]), "inputs": ("x", "z")})
    return Program(**{**vars(own), "ops": (own.ops[0], softmax)})


def test_what_a_softmax_keeps_broadcasts_to_its_input():
    for shape in (SHAPE, (1, 3, 4), (1, 1, 4), (1, 1, 1)):
        validate(masked(shape))
    for shape in ((3, 4), (2, 2, 4), (4, 3, 4)):
        with pytest.raises(
            ValueError, match=r"'y' \(softmax\): keeps entries of shape .*: must have \(2, 3, 4\)'s"
        ):
            validate(masked(shape))


def tokens(*ops: Op, count: int = 1000, shape: tuple[int, ...] = (5,), **shapes: tuple[int, ...]) -> Program:
    """Numbers of tokens, and what is done to them; values of other names hold levels."""
    ids = {"scale": 1.0, "zero_point": 0, "quant_min": 0, "quant_max": count - 1}
    levels = {"scale": 0.1, "zero_point": 3, "quant_min": 0, "quant_max": 200}
    values = {"ids": Value(name="ids", shape=shape, **ids)}
    for name, own in shapes.items():
        values[name] = Value(name=name, shape=own, **(ids if name == "moved" else levels))
    return Program(values=values, ops=ops, input="ids", output=ops[-1].output, requantize="float")


EMBEDDING = Op(
    op="embedding", inputs=("moved",), output="y", tensors={"table": np.zeros((1000, 3), np.uint8)}
)
MOVE = Op(op="slice", inputs=("ids",), output="moved", attrs={"starts": (1,), "ends": (5,), "steps": (1,)})


def test_numbers_of_tokens_are_moved_and_embedded():
    valid = tokens(MOVE, EMBEDDING, moved=(4,), y=(4, 3))
    validate(valid)
    assert valid.values["ids"].dtype == np.int32


def test_numbers_of_tokens_are_nothing_else():
    doubled = Op(op="requantize", inputs=("ids",), output="y", attrs=BOUNDS, tensors=RATIO)
    with pytest.raises(ValueError, match=r"'y' \(requantize\): reads numbers of tokens; embeddings"):
        validate(tokens(doubled, y=(5,)))
    table = Op(op="table", inputs=("ids",), output="y", tensors={"table": TABLE})
    with pytest.raises(ValueError, match=r"tensor 'table' is uint8 \(256,\): must be uint8 \(1000,\)"):
        validate(tokens(table, y=(5,)))
    constant = Op(op="constant", inputs=("ids",), output="moved", tensors={"levels": np.zeros(5, np.uint8)})
    with pytest.raises(ValueError, match=r"'moved' \(constant\): reads or gives levels of more than 8 bits"):
        validate(tokens(constant, moved=(5,)))
    with pytest.raises(
        ValueError, match=r"'y' \(embedding\): reads levels 0\.\.1000 .* numbers of its 1000 rows"
    ):
        validate(tokens(MOVE, EMBEDDING, count=1001, moved=(4,), y=(4, 3)))
    with pytest.raises(ValueError, match=r"value 'ids': .* must ascend within 0\.\.16777215"):
        validate(tokens(MOVE, EMBEDDING, count=2**24 + 1, moved=(4,), y=(4, 3)))


def test_an_embedding_gathers_rows_whatever_the_number():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 201, (1000, 3)).astype(np.uint8)
    valid = tokens(MOVE, Op(**{**vars(EMBEDDING), "tensors": {"table": table}}), moved=(4,), y=(4, 3))
    ids = rng.integers(0, 1000, (7, 5)).astype(np.float32)
    ids[0] = [0, 999, 255, 256, 5000]
    q = quantize_input(valid, ids)
    assert q.dtype == np.int32 and q[0].tolist() == [0, 999, 255, 256, 999]
    trace = Interpreter(valid, threads=1).trace(q)
    for name, levels in oracle.run(valid, q).items():
        assert (trace[name].astype(object) == levels).all()
    assert (trace["y"] == table[q[:, 1:]]).all()
