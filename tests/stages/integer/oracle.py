"""The program's table in unbounded Python integers: slow, element by element, no code shared with kernels."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import floor, isqrt

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
    sums = _centre(program, op.inputs[0], x) @ _weight(op).T
    levels = np.empty(sums.shape, object)
    for index in np.ndindex(sums.shape):
        rest = None if residual is None else residual[index]
        levels[index] = _layer_level(op, program, int(sums[index]), index[-1], rest)
    return levels


def _pairs(op: Op, program: Program, inputs: tuple[np.ndarray, ...]):
    """For each element of the result its index, and the terms of the inputs, which are broadcast."""
    shape = program.values[op.output].shape
    centred = [_centre(program, name, x) for name, x in zip(op.inputs, inputs, strict=True)]
    for index in np.ndindex(shape):
        places = [tuple(0 if n == 1 else i for i, n in zip(index, x.shape, strict=True)) for x in centred]
        yield (
            index,
            [_term(op, program, x[at], i) for i, (x, at) in enumerate(zip(centred, places, strict=True))],
        )


def _add(op: Op, program: Program, *inputs: np.ndarray) -> np.ndarray:
    y = np.empty(program.values[op.output].shape, object)
    for index, terms in _pairs(op, program, inputs):
        y[index] = _level(op, program, *terms)
    return y


def _subtract(op: Op, program: Program, *inputs: np.ndarray) -> np.ndarray:
    y = np.empty(program.values[op.output].shape, object)
    for index, (first, second) in _pairs(op, program, inputs):
        y[index] = _level(op, program, first - second)
    return y


def _extreme(op: Op, program: Program, *inputs: np.ndarray) -> np.ndarray:
    y, choose = np.empty(program.values[op.output].shape, object), {"maximum": max, "minimum": min}[op.op]
    for index, terms in _pairs(op, program, inputs):
        y[index] = _level(op, program, choose(terms))
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


def _table(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    lowest = -128 if program.values[op.inputs[0]].quant_min < 0 else 0
    return np.array([int(op.tensors["table"][v - lowest]) for v in x.ravel()], object)


def _channel_table(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    lowest = -128 if program.values[op.inputs[0]].quant_min < 0 else 0
    y, axis = np.empty(x.shape, object), op.attrs["axis"]
    for index in np.ndindex(x.shape):
        y[index] = int(op.tensors["table"][index[axis]][x[index] - lowest])
    return y


def _constant(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    return op.tensors["levels"].astype(object)


def _multiply(op: Op, program: Program, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    products = _centre(program, op.inputs[0], a) * _centre(program, op.inputs[1], b)
    return np.array([_level(op, program, _term(op, program, v, 0)) for v in products.ravel()], object)


def _mean(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    centred, axes = _centre(program, op.inputs[0], x), op.attrs["axes"]
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = centred.transpose(*kept, *axes).reshape(*(x.shape[i] for i in kept), -1)
    sums = [sum(rows[index].tolist()) for index in np.ndindex(rows.shape[:-1])]
    return np.array([_level(op, program, _term(op, program, v, 0)) for v in sums], object)


def _matmul(op: Op, program: Program, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = _centre(program, op.inputs[0], a), _centre(program, op.inputs[1], b)
    y = np.empty(program.values[op.output].shape, object)
    for index in np.ndindex(y.shape):
        *batch, i, j = index
        left, right = ([n % size for n, size in zip(batch, x.shape, strict=False)] for x in (a, b))
        terms = a[(*left, i)] * b[(*right, slice(None), j)]
        y[index] = _level(op, program, _term(op, program, sum(terms.tolist()), 0))
    return y


def _clamp(op: Op, program: Program, level: int) -> int:
    y = program.values[op.output].zero_point + level
    return min(max(y, op.attrs["act_min"]), op.attrs["act_max"])


def _softmax(op: Op, program: Program, x: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    inverse = int(op.tensors["inverse_scale"][0])
    y = np.empty(x.shape, object)
    rows, out = np.moveaxis(x, op.attrs["axis"], -1), np.moveaxis(y, op.attrs["axis"], -1)
    kept = np.ones(x.shape, bool)
    if keep is not None:
        kept = np.broadcast_to(_centre(program, op.inputs[1], keep) != 0, x.shape)
    kept = np.moveaxis(kept, op.attrs["axis"], -1)
    for index in np.ndindex(rows.shape[:-1]):
        row = rows[index].tolist()
        largest = max((q for q, k in zip(row, kept[index], strict=True) if k), default=0)
        a = [
            int(op.tensors["exponentials"][largest - q]) if k else 0
            for q, k in zip(row, kept[index], strict=True)
        ]
        for i, numerator in enumerate(a):
            exact = Fraction(numerator * inverse, max(sum(a), 1) * 2**14)
            out[(*index, i)] = _clamp(op, program, floor(exact + Fraction(1, 2)))
    return y


def _layer_norm(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y, size, shift = np.empty(x.shape, object), x.shape[-1], op.attrs["shift"]
    centred = _centre(program, op.inputs[0], x)
    for index in np.ndindex(x.shape[:-1]):
        row = [int(c) for c in centred[index]]
        deviations = [size * c - sum(row) for c in row]
        cut = [-(-abs(d) // 2 ** op.attrs["narrow"]) for d in deviations]
        spread = max(2**10 * sum(d * d for d in cut) + op.attrs["epsilon"], 1)
        power = max(j for j in range(32) if spread * 4**j < 2**62)
        root = isqrt(spread * 4**power)
        for i, d in enumerate(deviations):
            unit = floor(Fraction(d * 2 ** (power + 35), root * 2 ** op.attrs["narrow"]) + Fraction(1, 2))
            affine = unit * int(op.tensors["gamma"][i]) + int(op.tensors["beta"][i])
            y[(*index, i)] = _clamp(op, program, floor(Fraction(affine, 2**shift) + Fraction(1, 2)))
    return y


def _group_norm(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y, a = np.empty(x.shape, object), op.attrs
    centred, channels = _centre(program, op.inputs[0], x), x.shape[0] // a["groups"]
    for group in range(a["groups"]):
        of_group = slice(group * channels, (group + 1) * channels)
        row = [int(c) for c in centred[of_group].ravel()]
        size, bits = len(row), len(bin(len(row) - 1)) - 2 if len(row) > 1 else 0
        k, b = 44 - 2 * bits, -(-bits // 2)
        variance = size * sum(c * c for c in row) - sum(row) ** 2
        spread = max(2**k * variance + a["epsilon"], 1)
        power = max(j for j in range(32) if spread * 4**j < 2**62)
        root = isqrt(spread * 4**power)
        for index in np.ndindex(centred[of_group].shape):
            d = size * int(centred[of_group][index]) - sum(row)
            channel = group * channels + index[0]
            unit = floor(Fraction(d * 2 ** (k // 2 + power + 30), root * 2**b) + Fraction(1, 2))
            affine = unit * int(op.tensors["gamma"][channel]) + int(op.tensors["beta"][channel])
            level = _clamp(op, program, floor(Fraction(affine, 2 ** a["shift"]) + Fraction(1, 2)))
            y[(channel, *index[1:])] = level
    return y


def _rms_norm(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y, a = np.empty(x.shape, object), op.attrs
    centred = _centre(program, op.inputs[0], x)
    rows, out = np.moveaxis(centred, a["axis"], -1), np.moveaxis(y, a["axis"], -1)
    for index in np.ndindex(rows.shape[:-1]):
        row = [int(c) for c in rows[index]]
        spread = max(2**20 * sum(c * c for c in row) + a["epsilon"], a["floor"])
        power = max(j for j in range(32) if spread * 4**j < 2**62)
        root = isqrt(spread * 4**power)
        for i, c in enumerate(row):
            unit = floor(Fraction(c * 2 ** (power + 40), root) + Fraction(1, 2))
            real = Fraction(unit * int(op.tensors["gamma"][i]), 2 ** a["shift"])
            out[(*index, i)] = _clamp(op, program, floor(real + Fraction(1, 2)))
    return y


def _extreme_along(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    axes, choose = op.attrs["axes"], {"amax": max, "amin": min}[op.op]
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = x.transpose(*kept, *axes).reshape(*(x.shape[i] for i in kept), -1)
    return np.array([choose(rows[index].tolist()) for index in np.ndindex(rows.shape[:-1])], object)


def _permute(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y = np.empty(program.values[op.output].shape, object)
    for index in np.ndindex(x.shape):
        y[tuple(index[axis] for axis in op.attrs["axes"])] = x[index]
    return y


def _upsample_nearest(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y, (rows, columns) = np.empty(program.values[op.output].shape, object), op.attrs["factor"]
    for c, i, j in np.ndindex(y.shape):
        y[c, i, j] = x[c, i // rows, j // columns]
    return y


def _insert_zeros(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    zero = program.values[op.inputs[0]].zero_point
    y, (rows, columns) = np.full(program.values[op.output].shape, zero, object), op.attrs["factor"]
    for c, i, j in np.ndindex(x.shape):
        y[c, i * rows, j * columns] = x[c, i, j]
    return y


def _take(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y, axis = np.empty(program.values[op.output].shape, object), op.attrs["axis"]
    for index in np.ndindex(y.shape):
        y[index] = x[(*index[:axis], op.attrs["indices"][index[axis]], *index[axis + 1 :])]
    return y


def _resample(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y, centred = np.empty(program.values[op.output].shape, object), _centre(program, op.inputs[0], x)
    rows, columns = (op.tensors[name].astype(object) for name in ("rows", "columns"))
    for c, i, j in np.ndindex(y.shape):
        total = sum(
            int(rows[i, k] * columns[j, m] * centred[c, k, m]) for k, m in np.ndindex(centred.shape[1:])
        )
        y[c, i, j] = _level(op, program, _term(op, program, total, 0))
    return y


def _embedding(op: Op, program: Program, x: np.ndarray) -> np.ndarray:
    y = np.empty(program.values[op.output].shape, object)
    for index in np.ndindex(y.shape):
        y[index] = int(op.tensors["table"][int(x[index[:-1]]), index[-1]])
    return y


_OPS = {
    "conv2d": _conv2d,
    "linear": _linear,
    "add": _add,
    "subtract": _subtract,
    "maximum": _extreme,
    "minimum": _extreme,
    "concat": _concat,
    "requantize": _requantize,
    "avg_pool2d": _avg_pool2d,
    "max_pool2d": _max_pool2d,
    "reshape": _reshape,
    "pad": _pad,
    "slice": _slice,
    "table": _table,
    "channel_table": _channel_table,
    "constant": _constant,
    "multiply": _multiply,
    "mean": _mean,
    "matmul": _matmul,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "amax": _extreme_along,
    "amin": _extreme_along,
    "permute": _permute,
    "upsample_nearest": _upsample_nearest,
    "insert_zeros": _insert_zeros,
    "take": _take,
    "resample": _resample,
    "embedding": _embedding,
}
