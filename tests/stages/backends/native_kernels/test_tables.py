"""A table for each channel, over as many pixels as share one, and over fewer."""

from __future__ import annotations

import numpy as np
import pytest

from stages.backends.native import Native
from stages.backends.native_kernels.segments import parts
from stages.backends.reference import Reference
from stages.integer.program import Op, Program, Value
from tests.stages.backends.native_kernels.test_instruction_sets import HERE
from tests.stages.backends.native_kernels.walk import walk_parts
from tests.stages.integer.strategies import random_input

LEVELS = {"scale": 0.1, "zero_point": -7, "quant_min": -128, "quant_max": 127}


def tables(shape: tuple[int, ...], axis: int, padded: bool) -> Program:
    """Tables, and what reads them with a border; or does not."""
    rng = np.random.default_rng(0)
    values = {name: Value(name=name, shape=shape, **LEVELS) for name in ("x", "y")}
    own = rng.integers(-128, 128, (shape[axis], 256)).astype(np.int8)
    ops = [
        Op(op="channel_table", inputs=("x",), output="y", attrs={"axis": axis}, tensors={"table": own}),
    ]
    if padded:
        values["z"] = Value(name="z", shape=shape, **LEVELS)
        ratio = {
            "multiplier": np.array([2**30], np.int32),
            "shift": np.array([-6], np.int32),
            "ratio": np.array([2.0**-7], np.float32),
        }
        weight = {
            "weight": rng.integers(-128, 128, (shape[0], 1, 3, 3)).astype(np.int8),
            "weight_scale": np.ones(1, np.float32),
            "weight_zero_point": np.zeros(1, np.int32),
            "bias": np.zeros(shape[0], np.int32),
        }
        attrs = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": shape[0]}
        attrs |= {"act_min": -128, "act_max": 127}
        ops.append(Op(op="conv2d", inputs=("y",), output="z", attrs=attrs, tensors={**weight, **ratio}))
    return Program(values=values, ops=tuple(ops), input="x", output=ops[-1].output, requantize="float")


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize(
    ("shape", "axis", "padded"),
    [
        *(((channels, 5, 7), 0, padded) for channels in (1, 16, 19, 64) for padded in (False, True)),
        ((33, 3, 300), 0, True),  # more pixels in a row than go together
        ((17, 40, 20), 0, False),
        ((20, 2, 3), 0, True),
        ((5, 9, 70), 2, False),  # of tokens
        ((5, 9, 70), 1, False),  # one a row
        ((70,), 0, False),
    ],
)
def test_each_channel_has_its_own(isa: str, shape: tuple[int, ...], axis: int, padded: bool) -> None:
    program = tables(shape, axis, padded)
    walk_parts(parts(program, keep=False), program)
    q = random_input(program, 2)
    expected = Reference(threads=1).compile(program).run(q)
    executable = Native(threads=1 + shape[0] % 2, isa=isa, fallback=False).compile(program)
    assert executable.notes == ()
    assert (executable.run(q) == expected).all()
