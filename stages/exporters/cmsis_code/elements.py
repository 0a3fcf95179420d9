"""Sums, products, extremes, softmax, and what moves levels, as calls of CMSIS-NN."""

from __future__ import annotations

import math

import numpy as np

from stages.exporters.cmsis_code.writer import CmsisWriter, NoCallError, TensorPlace
from stages.exporters.tflite_file.layout import TensorLayout
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.profiles.tflm.add import LEFT_SHIFT
from stages.integer.profiles.tflm.softmax import difference_scaling
from stages.integer.program import Op, Value

MAX_JOINED = 2**16 - 1
"""The largest size of a part that is joined: arm_concatenation_s8_z counts in uint16_t."""


def add(w: CmsisWriter, op: Op) -> None:
    """A sum; `stages.integer.profiles.tflm.add` states the three multipliers."""
    if len(op.inputs) != 2:
        raise NoCallError(op, f"has {len(op.inputs)} inputs, and arm_elementwise_add_s8 two", "sums of two")
    a, b = (w.program.values[name] for name in op.inputs)
    y = w.program.values[op.output]
    twice = 2.0 * max(a.scale, b.scale)
    operands: list[int] = []
    for x in (a, b):
        operands += [-x.zero_point, *_fixed(x.scale / twice)]
    last = _fixed(twice / (2.0**LEFT_SHIFT * y.scale))
    _elementwise(w, op, "arm_elementwise_add_s8", [*operands, LEFT_SHIFT], [y.zero_point, *last])


def multiply(w: CmsisWriter, op: Op) -> None:
    """A product."""
    offsets = [-w.program.values[name].zero_point for name in op.inputs]
    ratio = [int(op.tensors[name][0]) for name in ("multiplier", "shift")]
    zero = w.program.values[op.output].zero_point
    _elementwise(w, op, "arm_elementwise_mul_s8", offsets, [zero, *ratio])


def extreme(w: CmsisWriter, op: Op) -> None:
    """The larger or the smaller of two values of one scale."""
    values = [w.program.values[name] for name in (*op.inputs, op.output)]
    exact = quantize_multiplier(1.0)
    same = all(
        (op.tensors[name] == part).all() for name, part in zip(("multiplier", "shift"), exact, strict=True)
    )
    if not same or len({value.zero_point for value in values}) > 1 or len(op.inputs) != 2:
        raise NoCallError(op, "compares values of several scales", "a network without it")
    _check_inputs(w, op)
    tensors, target, times, inner = _operands(w, op)
    dims = w.dims("dims", 1, 1, 1, inner)
    context = w.structure("context", "context", buf="0", size=0)
    own = _walked(tensors, inner, times)
    w.call(
        f"arm_{op.op}_s8",
        context,
        own[0],
        dims,
        own[1],
        dims,
        target if times == 1 else f"{target} + i * {inner}",
        dims,
        reads=[name for name, _ in tensors],
        times=times,
    )


def softmax(w: CmsisWriter, op: Op) -> None:
    """A softmax over the tensor's last dimension."""
    x, y = w.value_of(op)
    if len(op.inputs) > 1:
        raise NoCallError(op, "leaves entries out by a mask", "a softmax over all entries")
    if (np.float32(y.scale), y.zero_point) != (np.float32(1 / 256), -128):
        why = f"has scale {y.scale} and zero point {y.zero_point}; arm_softmax_s8 gives 1/256 and -128"
        raise NoCallError(op, why, "convert.arithmetic=tflm")
    _check_bounds(op)
    layout = w.layout(x.name)
    if layout.order[-1] != op.attrs["axis"]:
        layout = layout.last(op.attrs["axis"])
    multiplier, shift, radius = difference_scaling(x.scale)
    source = w.at(op, x.name, layout)
    target = w.declare(op.output, layout)
    size = x.shape[op.attrs["axis"]]
    rows = math.prod(x.shape) // size
    w.call("arm_softmax_s8", source, rows, size, multiplier, shift, -radius, target, reads=[source])


def reshape(w: CmsisWriter, op: Op) -> None:
    """Another name of the same tensor, as far as the elements stay where they lie."""
    (name,), y = op.inputs, w.program.values[op.output]
    if name in w.levels:
        w.levels[op.output] = w.levels[name].reshape(y.shape)
        return
    own = w.placed[name]
    layout = TensorLayout.plain(y.shape) if own.layout.in_order else own.layout.merge(y.shape)
    if layout is None and len(y.shape) == 1:
        layout = TensorLayout(sizes=own.layout.sizes, order=own.layout.order, flat=True)
    tensor = own.tensor
    if layout is None:
        layout = TensorLayout.plain(y.shape)
        tensor = w.at(op, name, TensorLayout.plain(w.program.values[name].shape))
    w.placed[op.output] = TensorPlace(tensor=tensor, layout=layout)


def permute(w: CmsisWriter, op: Op) -> None:
    """The same tensor, whose dimensions are counted otherwise."""
    (name,), axes = op.inputs, op.attrs["axes"]
    if name in w.levels:
        w.levels[op.output] = w.levels[name].transpose(axes)
        return
    layout = w.layout(name)
    w.placed[op.output] = TensorPlace(tensor=w.at(op, name, layout), layout=layout.permute(axes))


def constant(w: CmsisWriter, op: Op) -> None:
    """Levels that are stored in whatever layout they are read in."""
    w.levels[op.output] = op.tensors["levels"]


def pad(w: CmsisWriter, op: Op) -> None:
    """The zero point around a value."""
    x, y = w.value_of(op)
    layout = w.layout(x.name)
    if len(layout.order) > 4:
        raise NoCallError(op, f"has {len(layout.order)} dimensions, and arm_pad_s8 four", "fewer dimensions")
    source = w.at(op, x.name, layout)
    target = w.declare(op.output, layout.resize(dict(enumerate(y.shape))))
    lead = 4 - len(layout.order)
    pads = [op.attrs["pads"][axis] for axis in layout.order]
    before, after = ([0] * lead + [pair[end] for pair in pads] for end in (0, 1))
    w.call(
        "arm_pad_s8",
        source,
        target,
        x.zero_point,
        w.dims("dims_input", *[1] * lead, *layout.permuted),
        w.dims("before", *before),
        w.dims("after", *after),
        reads=[source],
    )


def concat(w: CmsisWriter, op: Op) -> None:
    """Values one behind the other along a dimension, a call each."""
    y = w.program.values[op.output]
    if any(w.program.values[name].zero_point != y.zero_point for name in op.inputs) or any(
        w.program.values[name].scale != y.scale for name in op.inputs
    ):
        raise NoCallError(op, "joins values of several scales", "convert.arithmetic=tflm")
    _check_inputs(w, op)
    first = next((name for name in op.inputs if name not in w.levels), None)
    order = w.layout(first).order if first else TensorLayout.plain(y.shape).order
    layout = TensorLayout(sizes=y.shape, order=order)
    place = layout.axis(op.attrs["axis"]) - 1
    outer, inner = math.prod(layout.permuted[:place]), math.prod(layout.permuted[place + 1 :])
    if max(outer, inner, *y.shape) > MAX_JOINED:
        raise NoCallError(op, f"has sizes above {MAX_JOINED}", "smaller values")
    shapes = [w.program.values[name].shape for name in op.inputs]
    sources = [
        w.at(op, name, TensorLayout(sizes=shape, order=order))
        for name, shape in zip(op.inputs, shapes, strict=True)
    ]
    target, offset = w.declare(op.output, layout), 0
    for source, shape in zip(sources, shapes, strict=True):
        own = shape[op.attrs["axis"]]
        sizes = (layout.permuted[place], offset)
        w.call("arm_concatenation_s8_z", source, inner, 1, own, outer, target, *sizes, reads=[source])
        offset += own
        w.read(target)


def _elementwise(w: CmsisWriter, op: Op, call: str, inputs: list[int], output: list[int]) -> None:
    """Two values, the smaller one again for every row that it is repeated in."""
    tensors, target, times, inner = _operands(w, op)
    bounds = [op.attrs["act_min"], op.attrs["act_max"]]
    own = _walked(tensors, inner, times)
    out = target if times == 1 else f"{target} + i * {inner}"
    w.call(
        call, *own, *inputs, out, *output, *bounds, inner, reads=[name for name, _ in tensors], times=times
    )


def _operands(w: CmsisWriter, op: Op) -> tuple[list[tuple[str, bool]], str, int, int]:
    """Both inputs' tensors, with whether they are repeated; the output's; the number of calls; their size.

    An input may lack the leading dimensions of the output's layout, or have size 1 there.
    """
    y = w.program.values[op.output]
    values = [w.program.values[name] for name in op.inputs]
    leading = [v.name for v in values if v.shape == y.shape and v.name not in w.levels]
    layout = w.layout(leading[0]) if leading else TensorLayout.plain(y.shape)
    sizes = [(*[1] * (len(y.shape) - len(value.shape)), *value.shape) for value in values]
    split = 0
    for own in sizes:
        order = [axis for axis in layout.order if y.shape[axis] != 1]
        repeated = [own[axis] != y.shape[axis] for axis in order]
        number = sum(repeated)
        if any(repeated[number:]):
            raise NoCallError(op, f"repeats {own} as {y.shape} within channels", "values of one shape")
        split = max(split, number)
        if number not in (0, split):
            raise NoCallError(op, "repeats both inputs in different ways", "values of one shape")
    order = [axis for axis in layout.order if y.shape[axis] != 1]
    times = math.prod(y.shape[axis] for axis in order[:split])
    tensors = []
    for value, own in zip(values, sizes, strict=True):
        seen = TensorLayout(sizes=own, order=layout.order)
        tensors.append((_seen(w, op, value, seen), own != y.shape))
    if all(repeated for _, repeated in tensors):
        raise NoCallError(op, "repeats both inputs", "values of one shape")
    return tensors, w.declare(op.output, layout), times, math.prod(y.shape) // times


def _seen(w: CmsisWriter, op: Op, value: Value, layout: TensorLayout) -> str:
    """A value's tensor in a layout of as many dimensions as the output has."""
    if len(value.shape) == len(layout.sizes):
        return w.at(op, value.name, layout)
    plain = TensorLayout.plain(value.shape)
    if not layout.in_order:
        raise NoCallError(op, f"repeats {value.shape} of fewer dimensions", "values of one shape")
    return w.at(op, value.name, plain)


def _walked(tensors: list[tuple[str, bool]], inner: int, times: int) -> list[str]:
    return [name if times == 1 or repeated else f"{name} + i * {inner}" for name, repeated in tensors]


def _check_bounds(op: Op, low: int = -128, high: int = 127) -> None:
    """Refuse bounds, which the call does not have, where levels from `low` to `high` could leave them."""
    bounds = (op.attrs["act_min"], op.attrs["act_max"])
    if low < bounds[0] or bounds[1] < high:
        raise NoCallError(op, f"bounds its levels to {bounds[0]}..{bounds[1]}", "8-bit activations")


def _check_inputs(w: CmsisWriter, op: Op) -> None:
    """Likewise, where the output's levels are among the inputs'."""
    values = [w.program.values[name] for name in op.inputs]
    _check_bounds(op, min(x.quant_min for x in values), max(x.quant_max for x in values))


def _fixed(ratio: float) -> list[int]:
    return [int(part) for part in quantize_multiplier(ratio)]
