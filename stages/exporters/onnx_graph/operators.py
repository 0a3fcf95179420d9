"""The operators of an integer program as ONNX nodes: one small function an operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from stages.exporters.onnx_graph.groups import blocked, ungrouped
from stages.exporters.onnx_graph.narrow import holds
from stages.exporters.onnx_graph.selecting import SELECTING
from stages.exporters.onnx_graph.writer import Writer
from stages.integer.kernels.channel_table import first_entries
from stages.integer.kernels.group_norm import size_of, spread_bits, unit_bits
from stages.integer.kernels.layer_norm import SPREAD_BITS, UNIT_BITS
from stages.integer.kernels.rms_norm import SPREAD_BITS as RMS_SPREAD_BITS
from stages.integer.program import Op


def pads(padding: Sequence[int]) -> list[int]:
    """Symmetric (height, width) padding in ONNX's order: begins, then ends."""
    return [*padding, *padding]


def _conv2d(writer: Writer, op: Op) -> None:
    weight, stride, padding = op.tensors["weight"], op.attrs["stride"], op.attrs["padding"]
    inputs = writer.layer(op, weight)
    if weight.shape[2:] == (1, 1) and any(padding) and writer.moves_levels:
        # OpenVINO forgets the padding, or what is added there, where a window is a single pixel
        x = writer.program.values[op.inputs[0]]
        padded = writer.pad(f"{x.name}/q", f"{op.output}/padded", padding, padding, x.zero_point, x)
        rows = {"starts": [0, 0], "ends": [2**31, 2**31], "axes": [2, 3], "steps": stride}
        names = [writer.constant(f"{op.output}/{k}", np.array(v, np.int64)) for k, v in rows.items()]
        writer.node("Slice", [padded, *names], f"{op.output}/selected/q")
        inputs[0] = writer.reals(f"{op.output}/selected", x)
        stride, padding = (1, 1), (0, 0)
    result = writer.node(
        "Conv",
        inputs,
        f"{op.output}/conv",
        kernel_shape=weight.shape[2:],
        strides=stride,
        pads=pads(padding),
        dilations=op.attrs["dilation"],
        group=op.attrs["groups"],
    )
    writer.finish(op, result)


def _linear(writer: Writer, op: Op) -> None:
    if len(writer.program.values[op.inputs[0]].shape) == 1:
        result = writer.node("Gemm", writer.layer(op, op.tensors["weight"]), f"{op.output}/linear", transB=1)
    else:
        x, weight, bias = writer.layer(op, op.tensors["weight"].T, axis=1)
        product = writer.node("MatMul", [x, weight], f"{op.output}/product")
        result = writer.node("Add", [product, bias], f"{op.output}/linear")
    writer.finish(op, result)


def _grouped(layer: Callable[[Writer, Op], None], writer: Writer, op: Op) -> None:
    """A layer with scales of groups: blocks of weights where a type of few bits holds them, else float.

    Blocks of int8 make onnxruntime's MatMul fail: it takes them for a scale a column (MatMulIntegerToFloat).
    """
    weight, zero_point = op.tensors["weight"], op.tensors["weight_zero_point"]
    levels = (weight, zero_point.astype(weight.dtype))
    blocks = any(all(holds(bits, array) for array in levels) for bits in writer.narrow_bits)
    layer(writer, blocked(op, writer.program) if blocks else ungrouped(op, writer.program))


def _elements(kind: str, writer: Writer, op: Op) -> None:
    """An operator on the elements of its inputs."""
    writer.finish(op, writer.node(kind, [writer.reals(name) for name in op.inputs], f"{op.output}/elements"))


def _concat(writer: Writer, op: Op) -> None:
    parts = [writer.reals(name) for name in op.inputs]
    writer.finish(op, writer.node("Concat", parts, f"{op.output}/joined", axis=op.attrs["axis"] + 1))


def _avg_pool2d(writer: Writer, op: Op) -> None:
    x, kernel, padding = writer.program.values[op.inputs[0]], tuple(op.attrs["kernel"]), op.attrs["padding"]
    kind, attributes = "AveragePool", {"kernel_shape": kernel, "strides": op.attrs["stride"]}
    source = x.name
    if any(padding) and writer.moves_levels:  # OpenVINO would average stored zeros in
        source = f"{op.output}/padded"
        writer.pad(f"{x.name}/q", f"{source}/q", padding, padding, x.zero_point, x)
    elif any(padding):
        attributes |= {"pads": pads(padding), "count_include_pad": 1}
    elif kernel == tuple(x.shape[1:]):
        kind, attributes = "GlobalAveragePool", {}
    writer.finish(op, writer.node(kind, [writer.reals(source, x)], f"{op.output}/mean", **attributes))


def _requantize(writer: Writer, op: Op) -> None:
    writer.finish(op, writer.reals(op.inputs[0]))


def _max_pool2d(writer: Writer, op: Op) -> None:
    a, x, y = op.attrs, *(writer.program.values[name] for name in (op.inputs[0], op.output))
    source, padding = writer.elements(x.name), tuple(a["padding"])
    narrow = any(padding) and x.quant_min not in (-128, 0)  # a window of nothing but padding: not a level
    if a["ceil_mode"] or narrow:  # runtimes disagree about windows that start beyond the input
        windows = zip(x.shape[1:], y.shape[1:], a["kernel"], a["stride"], padding, a["dilation"], strict=True)
        behind = [max((out - 1) * s + d * (k - 1) + 1 - size - p, 0) for size, out, k, s, p, d in windows]
        source = writer.pad(source, f"{op.output}/padded", padding, behind, x.quant_min, x)
        padding = (0, 0)
    writer.selected(
        op,
        "MaxPool",
        [source],
        kernel_shape=a["kernel"],
        strides=a["stride"],
        pads=pads(padding),
        dilations=a["dilation"],
    )


def _reshape(writer: Writer, op: Op) -> None:
    shape = np.array([0, *op.attrs["shape"]], np.int64)  # 0: the batch, as it is
    writer.move(op, "Reshape", writer.constant(f"{op.output}/shape", shape))


def _pad(writer: Writer, op: Op) -> None:
    x = writer.program.values[op.inputs[0]]
    before, after = zip(*op.attrs["pads"], strict=True)
    writer.move(op, "Pad", *writer.padding(op.output, before, after, x.zero_point, x, len(x.shape) + 1))


def _slice(writer: Writer, op: Op) -> None:
    a = op.attrs
    axes = range(1, len(a["starts"]) + 1)
    indices = {"starts": a["starts"], "ends": a["ends"], "axes": axes, "steps": a["steps"]}
    names = [writer.constant(f"{op.output}/{key}", np.array(rows, np.int64)) for key, rows in indices.items()]
    writer.move(op, "Slice", *names)


def _table(writer: Writer, op: Op) -> None:
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    table = writer.constant(f"{op.output}/table", writer.stored(y, op.tensors["table"]))
    writer.selected(op, "Gather", [table, writer.index(x, f"{op.output}/index")])


def _channel_table(writer: Writer, op: Op) -> None:
    """The levels of channel c stand at 256 · c, those of all channels in a row."""
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    table = writer.constant(f"{op.output}/table", writer.stored(y, op.tensors["table"]).reshape(-1))
    first = writer.constant(f"{op.output}/first", first_entries(op, writer.program))
    index = writer.node("Add", [writer.index(x, f"{op.output}/column"), first], f"{op.output}/index")
    writer.selected(op, "Gather", [table, index])


def _constant(writer: Writer, op: Op) -> None:
    y, name = writer.program.values[op.output], op.output
    shape = writer.node("Shape", [writer.elements(op.inputs[0])], f"{name}/samples", start=0, end=1)
    rest = writer.constant(f"{name}/rest", np.array(y.shape, np.int64))
    full = writer.node("Concat", [shape, rest], f"{name}/shape", axis=0)
    levels = writer.constant(f"{name}/levels", writer.stored(y, op.tensors["levels"])[None])
    writer.selected(op, "Expand", [levels, full])


def _product(kind: str, writer: Writer, op: Op) -> None:
    """What the ratio holds beside the scales, as a square root's reciprocal, is a factor of the result."""
    values = [writer.program.values[name] for name in (*op.inputs, op.output)]
    factor = float(op.tensors["ratio"][0]) * values[2].scale / (values[0].scale * values[1].scale)
    product = writer.node(kind, [writer.reals(name) for name in op.inputs], f"{op.output}/product")
    if abs(factor - 1.0) > 1e-6:
        constant = writer.constant(f"{op.output}/factor", np.array(factor, np.float32))
        product = writer.node("Mul", [product, constant], f"{op.output}/scaled")
    writer.finish(op, product)


def _mean(writer: Writer, op: Op) -> None:
    """A sum and a factor: OpenVINO 2026 computes ReduceMean between quantized values wrongly (N ≥ 64)."""
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    axes, name = op.attrs["axes"], op.output
    numbers = writer.constant(f"{name}/axes", np.array([axis + 1 for axis in axes], np.int64))
    share = 1.0 / math.prod(x.shape[axis] for axis in axes)
    ratio = float(op.tensors["ratio"][0]) * y.scale / x.scale
    share = share if abs(ratio - share) < 1e-6 * share else ratio  # a sum, or what else the ratio holds
    factor = writer.constant(f"{name}/factor", np.array(share, np.float32))
    inputs = [writer.reals(op.inputs[0]), numbers]
    total = writer.node("ReduceSum", inputs, f"{name}/sum", keepdims=int(op.attrs["keepdim"]))
    writer.finish(op, writer.node("Mul", [total, factor], f"{name}/mean"))


def _softmax(writer: Writer, op: Op) -> None:
    """Entries that a second input leaves out are far below all others; of a row of such alone, 0 is left."""
    x, y, axis = writer.reals(op.inputs[0]), op.output, op.attrs["axis"] + 1
    if len(op.inputs) == 1:
        writer.finish(op, writer.node("Softmax", [x], f"{y}/softmax", axis=axis))
        return
    keep = writer.program.values[op.inputs[1]]
    zero = writer.constant(f"{y}/dropped", writer.stored(keep, keep.zero_point))
    numbers = {"far": -1e30, "none": 0.0}
    far, none = (writer.constant(f"{y}/{k}", np.array(v, np.float32)) for k, v in numbers.items())
    left_out = writer.node("Equal", [writer.elements(keep.name), zero], f"{y}/left_out")
    masked = writer.node("Where", [left_out, far, x], f"{y}/masked")
    shares = writer.node("Softmax", [masked], f"{y}/softmax", axis=axis)
    writer.finish(op, writer.node("Where", [left_out, none, shares], f"{y}/kept"))


def _layer_norm(writer: Writer, op: Op) -> None:
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    size, step = x.shape[-1], y.scale * 2.0 ** -op.attrs["shift"]
    gamma = op.tensors["gamma"] * (step * 2.0**UNIT_BITS / np.sqrt(size))
    parameters = [("gamma", gamma), ("beta", op.tensors["beta"] * step)]
    names = [writer.constant(f"{op.output}/{k}", v.astype(np.float32)) for k, v in parameters]
    spread_bits = SPREAD_BITS - 2 * op.attrs["narrow"]
    epsilon = op.attrs["epsilon"] * x.scale**2 / (2.0**spread_bits * size**3)
    inputs = [writer.reals(x.name), *names]
    writer.finish(op, writer.node("LayerNormalization", inputs, f"{op.output}/normal", epsilon=epsilon))


def _along(kind: str, writer: Writer, op: Op) -> None:
    """The largest or smallest levels along dimensions."""
    axes = [axis + 1 for axis in op.attrs["axes"]]
    keepdims = int(op.attrs["keepdim"])
    if writer.opset < 18:
        writer.move(op, kind, axes=axes, keepdims=keepdims)
        return
    numbers = writer.constant(f"{op.output}/axes", np.array(axes, np.int64))
    writer.move(op, kind, numbers, keepdims=keepdims)


def _group_norm(writer: Writer, op: Op) -> None:
    """InstanceNormalization of each group as one channel, then factor and offset of each channel."""
    x, y, name = writer.program.values[op.inputs[0]], writer.program.values[op.output], op.output
    groups, size = op.attrs["groups"], size_of(x.shape, op.attrs["groups"])
    step = y.scale * 2.0 ** -op.attrs["shift"]
    along = (-1, *[1] * (len(x.shape) - 1))
    numbers = {
        "rows": np.array([0, groups, -1], np.int64),
        "ones": np.ones(groups, np.float32),
        "zeros": np.zeros(groups, np.float32),
        "shape": np.array([0, *x.shape], np.int64),
        "gamma": (op.tensors["gamma"] * (step * 2.0 ** (UNIT_BITS - unit_bits(size)))).reshape(along),
        "beta": (op.tensors["beta"] * step).reshape(along),
    }
    numbers |= {k: numbers[k].astype(np.float32) for k in ("gamma", "beta")}
    names = {k: writer.constant(f"{name}/{k}", v) for k, v in numbers.items()}
    epsilon = op.attrs["epsilon"] * x.scale**2 / (2.0 ** spread_bits(size) * size**2)
    rows = writer.node("Reshape", [writer.reals(x.name), names["rows"]], f"{name}/grouped")
    inputs = [rows, names["ones"], names["zeros"]]
    normal = writer.node("InstanceNormalization", inputs, f"{name}/normal", epsilon=epsilon)
    image = writer.node("Reshape", [normal, names["shape"]], f"{name}/image")
    scaled = writer.node("Mul", [image, names["gamma"]], f"{name}/scaled")
    writer.finish(op, writer.node("Add", [scaled, names["beta"]], f"{name}/shifted"))


def _rms_norm(writer: Writer, op: Op) -> None:
    x, y, name = writer.program.values[op.inputs[0]], writer.program.values[op.output], op.output
    real, step = writer.reals(x.name), x.scale**2 / 2.0**RMS_SPREAD_BITS
    gamma = op.tensors["gamma"] * (y.scale * 2.0 ** (UNIT_BITS - op.attrs["shift"]))
    gamma = gamma.reshape(-1, *[1] * (len(x.shape) - 1 - op.attrs["axis"]))
    numbers = {"epsilon": op.attrs["epsilon"] * step, "floor": op.attrs["floor"] * step, "gamma": gamma}
    names = {k: writer.constant(f"{name}/{k}", np.array(v, np.float32)) for k, v in numbers.items()}
    axis = writer.constant(f"{name}/axis", np.array([op.attrs["axis"] + 1], np.int64))
    squares = writer.node("Mul", [real, real], f"{name}/squares")
    total = writer.node("ReduceSum", [squares, axis], f"{name}/total", keepdims=1)
    total = writer.node("Add", [total, names["epsilon"]], f"{name}/raised")
    root = writer.node("Sqrt", [writer.node("Max", [total, names["floor"]], f"{name}/least")], f"{name}/root")
    unit = writer.node("Div", [real, root], f"{name}/unit")
    writer.finish(op, writer.node("Mul", [unit, names["gamma"]], f"{name}/normal"))


def _permute(writer: Writer, op: Op) -> None:
    writer.move(op, "Transpose", perm=[0, *(axis + 1 for axis in op.attrs["axes"])])


def _upsample_nearest(writer: Writer, op: Op) -> None:
    scales = np.array([1, 1, *op.attrs["factor"]], np.float32)
    names = ["", writer.constant(f"{op.output}/scales", scales)]
    form = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    writer.move(op, "Resize", *names, **form)


def _insert_zeros(writer: Writer, op: Op) -> None:
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    (channels, height, width), (rows, columns) = x.shape, op.attrs["factor"]

    def reshape(source: str, name: str, *shape: int) -> str:
        wanted = writer.constant(f"{name}/shape", np.array([0, *shape], np.int64))
        return writer.node("Reshape", [source, wanted], name)

    apart = reshape(writer.elements(x.name), f"{op.output}/apart", channels, height, 1, width, 1)
    after = (0, 0, rows - 1, 0, columns - 1)
    padded = writer.pad(apart, f"{op.output}/padded", (0,) * 5, after, x.zero_point, x, rank=6)
    image = reshape(padded, f"{op.output}/image", channels, height * rows, width * columns)
    ends = {"starts": [0, 0], "ends": y.shape[1:], "axes": [2, 3]}
    names = [writer.constant(f"{op.output}/{k}", np.array(v, np.int64)) for k, v in ends.items()]
    writer.selected(op, "Slice", [image, *names])


OPERATORS: Mapping[str, Callable[[Writer, Op], None]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "float_conv2d": _conv2d,
    "float_linear": _linear,
    "group_conv2d": partial(_grouped, _conv2d),
    "group_linear": partial(_grouped, _linear),
    "add": partial(_elements, "Add"),
    "subtract": partial(_elements, "Sub"),
    "maximum": partial(_elements, "Max"),
    "minimum": partial(_elements, "Min"),
    "concat": _concat,
    "avg_pool2d": _avg_pool2d,
    "requantize": _requantize,
    "max_pool2d": _max_pool2d,
    "reshape": _reshape,
    "pad": _pad,
    "slice": _slice,
    "table": _table,
    "channel_table": _channel_table,
    "constant": _constant,
    "multiply": partial(_product, "Mul"),
    "matmul": partial(_product, "MatMul"),
    "mean": _mean,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "amax": partial(_along, "ReduceMax"),
    "amin": partial(_along, "ReduceMin"),
    "permute": _permute,
    "upsample_nearest": _upsample_nearest,
    "insert_zeros": _insert_zeros,
    **SELECTING,
}
