"""What operators without weights rely on is checked, and said, before anything runs."""

import numpy as np
import pytest

from stages.integer.fixed_point import quantize_multiplier
from stages.integer.program import Op, Program, Value
from stages.integer.validate import validate

SHAPE = (2, 3, 4)
BOUNDS = {"act_min": 0, "act_max": 200}
MULTIPLIER, SHIFT = quantize_multiplier(np.array([0.5]))
RATIO = {"multiplier": MULTIPLIER, "shift": SHIFT, "ratio": np.array([0.5], np.float32)}
RATIOS = {name: np.repeat(tensor, 2) for name, tensor in RATIO.items()}
SUM = {"headroom": 0, **BOUNDS}
TABLE = np.zeros(256, np.uint8)
FALLING = np.linspace(2**26, 0, 256).astype(np.int32)
INVERSE = np.array([2**22], np.int64)
GAMMA, BETA = np.zeros(4, np.int32), np.zeros(4, np.int64)
NORM = {"epsilon": 5, "shift": 40, **BOUNDS}
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
