"""The program's table in unbounded Python integers: slow, element by element, no code shared with kernels."""

from __future__ import annotations

from itertools import product

import numpy as np

from stages.integer.program import Op, Program

INT32 = (-(2**31), 2**31 - 1)


def high_mul(a: int, b: int) -> int:
    """gemmlowp's SaturatingRoundingDoublingHighMul, as its C code reads."""
    if a == b == INT32[0]:
        return INT32[1]
    nudged = a * b + (2**30 if a * b >= 0 else 1 - 2**30)
    return nudged // 2**31 if nudged >= 0 else -(-nudged // 2**31)  # C division truncates


def divide_by_pot(x: int, exponent: int) -> int:
    """gemmlowp's RoundingDivideByPOT, as its C code reads."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def fixed_multiply(x: int, multiplier: int, shift: int) -> int:
    """MultiplyByQuantizedMultiplier with a saturating left shift."""
    shifted = min(max(x << max(shift, 0), INT32[0]), INT32[1])
    return divide_by_pot(high_mul(shifted, multiplier), max(-shift, 0))


def single_multiply(x: int, multiplier: int, shift: int) -> int:
    """TFLite's MultiplyByQuantizedMultiplier under TFLITE_SINGLE_ROUNDING, saturating where it asserts."""
    total_shift = 31 - shift
    rounded = (x * multiplier + (1 << (total_shift - 1))) >> total_shift
    return min(max(rounded, INT32[0]), INT32[1])


def run(program: Program, q: np.ndarray) -> dict[str, np.ndarray]:
    """Every value by name, for levels `q` (N, *shape)."""
    values = {program.input: q.astype(object)}
    for op in program.ops:
        inputs = [values[name] for name in op.inputs]
        samples = [_OPS[op.op](op, program, *(x[n] for x in inputs)) for n in range(len(q))]
        shape = program.values[op.output].shape
        values[op.output] = np.array(samples, dtype=object).reshape(len(q), *shape)
    return values


def _term(op: Op, program: Program, x: int, i: int, prefix: str = ""):
    tensors = {name: op.tensors[prefix + name] for name in ("multiplier", "shift", "ratio")}
    i = min(i, len(tensors["ratio"]) - 1)
    if program.requantize == "float":
        return np.float32(x) * tensors["ratio"][i]
    multiply = {"fixed_point": fixed_multiply, "fixed_point_single": single_multiply}[program.requantize]
    return multiply(x, int(tensors["multiplier"][i]), int(tensors["shift"][i]))


def _level(op: Op, program: Program, *terms) -> int:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    if program.requantize == "float":
        rounded = int(np.rint(total))
    elif program.requantize == "fixed_point_single":
        headroom = op.attrs.get("headroom", 0)
        rounded = (2 * int(total) + 2**headroom) // 2 ** (headroom + 1)
    else:
        rounded = divide_by_pot(int(total), op.attrs.get("headroom", 0))
    y = program.values[op.output].zero_point + rounded
    return min(max(y, op.attrs["act_min"]), op.attrs["act_max"])


def _centre(program: Program, name: str, x: np.ndarray) -> np.ndarray:
    return x - program.values[name].zero_point


def _padded(x: np.ndarray, pads, value: int) -> np.ndarray:
    return np.pad(x, pads, constant_values=value)


def _windows(op: Op, program: Program, x: np.ndarray, kernel, value: int):
    """((i, j), window (C, kH, kW)) of each output; entries past the end are `value`."""
    (ph, pw), (sh, sw) = op.attrs["padding"], op.attrs["stride"]
    dh, dw = op.attrs.get("dilation", (1, 1))
    height, width = program.values[op.output].shape[1:]
    more_h, more_w = sh * height + dh * kernel[0], sw * width + dw * kernel[1]
    x = _padded(x, [(0, 0), (ph, more_h), (pw, more_w)], value)
    for i, j in product(range(height), range(width)):
        rows, columns = slice(i * sh, i * sh + dh * kernel[0], dh), slice(j * sw, j * sw + dw * kernel[1], dw)
        yield (i, j), x[:, rows, columns]


def _layer_level(op: Op, program: Program, acc: int, channel: int, residual: int | None) -> int:
    terms = [_term(op, program, acc + int(op.tensors["bias"][channel]), channel)]
    if residual is not None:
        centred = residual - program.values[op.inputs[1]].zero_point
        terms.append(_term(op, program, centred, 0, "residual_"))
    return _level(op, program, *terms)


def _weight(op: Op) -> np.ndarray:
    zero_point = op.tensors["weight_zero_point"].astype(object)
    weight = op.tensors["weight"].astype(object)
    return weight - zero_point.reshape(-1, *[1] * (weight.ndim - 1))


def _conv2d(op: Op, program: Program, x: np.ndarray, residual: np.ndarray | None = None) -> np.ndarray:
    weight, groups = _weight(op), op.attrs["groups"]
    y = np.empty(program.values[op.output].shape, object)
    per_group_in, per_group_out = x.shape[0] // groups, y.shape[0] // groups
    centred = _centre(program, op.inputs[0], x)
    for (i, j), window in _windows(op, program, centred, weight.shape[2:], 0):
        for o in range(y.shape[0]):
            first = o // per_group_out * per_group_in
            acc = int((window[first : first + per_group_in] * weight[o]).sum())
            y[o, i, j] = _layer_level(op, program, acc, o, None if residual is None else residual[o, i, j])
    return y


def _linear(op: Op, program: Program, x: np.ndarray, residual: np.ndarray | None = None) -> np.ndarray:
    sums = _weight(op) @ _centre(program, op.inputs[0], x)
    rest = [None] * len(sums) if residual is None else residual
    return np.array([_layer_level(op, program, int(s), o, rest[o]) for o, s in enumerate(sums)], object)


def _add(op: Op, program: Program, *inputs: np.ndarray) -> np.ndarray:
    centred = [_centre(program, name, x) for name, x in zip(op.inputs, inputs, strict=True)]
    y = np.empty(inputs[0].shape, object)
    for index in np.ndindex(y.shape):
        y[index] = _level(op, program, *(_term(op, program, x[index], i) for i, x in enumerate(centred)))
    return y


def _concat(op: Op, program: Program, *inputs: np.ndarray) -> np.ndarray:
    parts = []
    for i, (name, x) in enumerate(zip(op.inputs, inputs, strict=True)):
        levels = [_level(op, program, _term(op, program, v, i)) for v in _centre(program, name, x).ravel()]
        parts.append(np.array(levels, object).reshape(x.shape))
    return np.concatenate(parts, axis=op.attrs["axis"])


def _requantize(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    centred = _centre(program, op.inputs[0], x)
    return np.array([_level(op, program, _term(op, program, v, 0)) for v in centred.ravel()], object)


def _avg_pool2d(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y = np.empty(program.values[op.output].shape, object)
    centred = _centre(program, op.inputs[0], x)
    for (i, j), window in _windows(op, program, centred, op.attrs["kernel"], 0):
        for c in range(len(y)):
            y[c, i, j] = _level(op, program, _term(op, program, int(window[c].sum()), 0))
    return y


def _max_pool2d(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y = np.empty(program.values[op.output].shape, object)
    lowest = program.values[op.inputs[0]].quant_min
    for (i, j), window in _windows(op, program, x, op.attrs["kernel"], lowest):
        y[:, i, j] = window.max(axis=(1, 2))
    return y


def _reshape(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    return x.reshape(op.attrs["shape"])


def _pad(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    return _padded(x, op.attrs["pads"], program.values[op.inputs[0]].zero_point)


def _slice(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    a = op.attrs
    return x[tuple(slice(*b) for b in zip(a["starts"], a["ends"], a["steps"], strict=True))]


_OPS = {
    "conv2d": _conv2d,
    "linear": _linear,
    "add": _add,
    "concat": _concat,
    "requantize": _requantize,
    "avg_pool2d": _avg_pool2d,
    "max_pool2d": _max_pool2d,
    "reshape": _reshape,
    "pad": _pad,
    "slice": _slice,
}
