"""How operators that compute become calls; each appends to the writer the constants and the call of one."""

from __future__ import annotations

import math
from typing import Any

from stages.exporters.c_code.literals import Sizes, broadcast, row_major
from stages.exporters.c_code.writer import CWriter
from stages.integer.program import Op, Value


def bounds(op: Op, y: Value) -> dict[str, Any]:
    """The fields of a clamp."""
    return {"zero_y": y.zero_point, "low": op.attrs["act_min"], "high": op.attrs["act_max"]}


def conv2d(w: CWriter, op: Op) -> None:
    """conv2d and group_conv2d."""
    (x, *_), y = w.values_of(op)
    w.use("conv2d")
    structure = w.structure(
        "conv2d",
        layer=_layer(w, op, op.attrs["groups"]),
        height=x.shape[1],
        width=x.shape[2],
        out_height=y.shape[1],
        out_width=y.shape[2],
        kernel=op.tensors["weight"].shape[2:],
        **{name: op.attrs[name] for name in ("stride", "padding", "dilation")},
    )
    w.call("conv2d", structure, w.at(x), residual(w, op), w.at(y))


def linear(w: CWriter, op: Op) -> None:
    """linear and group_linear."""
    (x, *_), y = w.values_of(op)
    structure = w.structure("layer", **_layer(w, op, op.attrs.get("groups", 1)))
    w.call("linear", structure, math.prod(x.shape[:-1]), w.at(x), residual(w, op), w.at(y))


def combine(w: CWriter, op: Op) -> None:
    """Sums, differences, the larger and the smaller of two."""
    inputs, y = w.values_of(op)
    walk, strides = w.walk(y.shape, *(broadcast(x.shape, y.shape) for x in inputs))
    w.use("combine")
    operands = ",\n    ".join(
        f"{{{w.ratio(op, index=i)}, {x.zero_point}, {int(x.wide)}, {{{', '.join(map(str, strides[i]))}}}}}"
        for i, x in enumerate(inputs)
    )
    name = f"operands_{w.step}"
    w.constants.append(f"static const operand_t {name}[{len(inputs)}] = {{\n    {operands}}};")
    structure = w.structure(
        "combine",
        kind={"requantize": "ADD"}.get(op.op, op.op.upper()),
        count=len(inputs),
        operands=name,
        size=math.prod(y.shape),
        **walk,
        **bounds(op, y),
        headroom=op.attrs.get("headroom", 0),
        wide_y=int(y.wide),
    )
    w.calls.append("    {")
    w.calls.append(f"        const void *inputs[{len(inputs)}];")
    w.calls += [f"        inputs[{i}] = {w.at(x)};" for i, x in enumerate(inputs)]
    w.calls.append(f"        combine({structure}, inputs, {w.at(y)});")
    w.calls.append("    }")


def multiply(w: CWriter, op: Op) -> None:
    """A product of two values, element by element."""
    (a, b), y = w.values_of(op)
    walk, strides = w.walk(y.shape, *(broadcast(x.shape, y.shape) for x in (a, b)))
    structure = w.structure(
        "multiply",
        ratio=w.ratio(op),
        zeros=(a.zero_point, b.zero_point),
        size=math.prod(y.shape),
        **walk,
        strides=strides,
        **bounds(op, y),
    )
    w.call("multiply", structure, w.at(a), w.at(b), w.at(y))


def matmul(w: CWriter, op: Op) -> None:
    """A product of matrices."""
    (a, b), y = w.values_of(op)
    lead = y.shape[:-2]
    own = [_lead(x.shape, lead) for x in (a, b)]
    walk, strides = w.walk(lead, *own)
    structure = w.structure(
        "matmul",
        ratio=w.ratio(op),
        zeros=(a.zero_point, b.zero_point),
        matrices=math.prod(lead),
        **walk,
        strides=strides,
        rows=a.shape[-2],
        inner=a.shape[-1],
        columns=b.shape[-1],
        **bounds(op, y),
    )
    w.call("matmul", structure, w.at(a), w.at(b), w.at(y))


def mean(w: CWriter, op: Op) -> None:
    """A mean, or a sum, along dimensions."""
    average(w, op, w.ratio(op))


def average(w: CWriter, op: Op, ratio: str) -> None:
    """A mean with a ratio of its own."""
    (x,), y = w.values_of(op)
    along = _reduce(w, op, x.shape)
    structure = w.structure("mean", along=along, ratio=ratio, zero_x=x.zero_point, **bounds(op, y))
    w.call("mean", structure, w.at(x), w.at(y))


def extreme(w: CWriter, op: Op) -> None:
    """amax and amin."""
    (x,), y = w.values_of(op)
    structure = w.structure("reduce", **_reduce(w, op, x.shape))
    w.call("extreme", structure, int(op.op == "amax"), w.at(x), w.at(y))


def avg_pool2d(w: CWriter, op: Op) -> None:
    """Averages over windows."""
    (x,), y = w.values_of(op)
    fields = {"windows": pool(op, x, y), "ratio": w.ratio(op), "zero_x": x.zero_point, **bounds(op, y)}
    w.call("avg_pool2d", w.structure("avg_pool2d", **fields), w.at(x), w.at(y))


def max_pool2d(w: CWriter, op: Op) -> None:
    """The largest levels of windows."""
    (x,), y = w.values_of(op)
    w.call("max_pool2d", w.structure("pool", **pool(op, x, y)), x.quant_min, w.at(x), w.at(y))


def pool(op: Op, x: Value, y: Value) -> dict[str, Any]:
    """The fields of windows over images."""
    sizes = dict(zip(("channels", "height", "width"), x.shape, strict=True))
    sizes |= {"out_height": y.shape[1], "out_width": y.shape[2]}
    windows = {name: op.attrs[name] for name in ("kernel", "stride", "padding")}
    return {**sizes, **windows, "dilation": op.attrs.get("dilation", (1, 1))}


def resample(w: CWriter, op: Op) -> None:
    """Weighted sums of rows and columns."""
    (x,), y = w.values_of(op)
    structure = w.structure(
        "resample",
        channels=x.shape[0],
        height=x.shape[1],
        width=x.shape[2],
        out_height=y.shape[1],
        out_width=y.shape[2],
        rows=w.data("rows", op.tensors["rows"]),
        columns=w.data("columns", op.tensors["columns"]),
        ratio=w.ratio(op),
        zero_x=x.zero_point,
        **bounds(op, y),
    )
    w.call("resample", structure, w.at(x), w.at(y))


def _lead(shape: Sizes, lead: Sizes) -> tuple[int, ...]:
    """The strides of a matrix's leading dimensions."""
    matrix = math.prod(shape[-2:])
    return tuple(stride * matrix for stride in broadcast(shape[:-2], lead))


def _reduce(w: CWriter, op: Op, shape: Sizes) -> dict[str, Any]:
    """The elements that each output is made of."""
    strides, axes = row_major(shape), op.attrs["axes"]
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    outer, (own,) = w.walk([shape[i] for i in kept], [strides[i] for i in kept])
    inner, (others,) = w.walk([shape[i] for i in axes], [strides[i] for i in axes])
    return {
        "size": math.prod(shape[i] for i in kept),
        **outer,
        "strides": own,
        "count": math.prod(shape[i] for i in axes),
        **{f"{name}_of_count": value for name, value in inner.items()},
        "strides_of_count": others,
    }


def residual(w: CWriter, op: Op) -> str:
    """Where a layer's residual lies, or a null pointer."""
    return w.at(w.program.values[op.inputs[1]]) if len(op.inputs) == 2 else "0"


def _layer(w: CWriter, op: Op, groups: int) -> dict[str, Any]:
    """The fields of a layer, its tensors written before."""
    zero_point = op.tensors["weight_zero_point"]
    fields = {"weight": w.data("weight", op.tensors["weight"]), **finishing(w, op, groups)}
    if zero_point.any():
        name = w.data("weight_zero_point", zero_point)
        fields |= {"weight_zero_point": name, "weight_zero_points": zero_point.size}
    return fields


def finishing(w: CWriter, op: Op, groups: int) -> dict[str, Any]:
    """The fields that make a layer's levels of its sums, its tensors written before."""
    inputs, y = w.values_of(op)
    w.use("layer")
    weight = op.tensors["weight"]
    ratio, ratios = w.ratios("ratio", op)
    fields: dict[str, Any] = {
        "rows": weight.shape[0],
        "outputs": op.tensors["bias"].size,
        "inputs": weight.shape[1],
        "groups": groups,
        "bias": w.data("bias", op.tensors["bias"]),
        "ratio": ratio,
        "ratios": ratios,
        "zero_x": inputs[0].zero_point,
        **bounds(op, y),
        "headroom": op.attrs.get("headroom", 0),
        "wide_y": int(y.wide),
    }
    if len(inputs) == 2:
        fields["residual_ratio"] = w.ratio(op, "residual_")
        fields |= {"zero_residual": inputs[1].zero_point, "wide_residual": int(inputs[1].wide)}
    return fields
