"""Constants that nodes compute: arithmetic of shapes, by the reference of ONNX's package, within bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from stages.importers.onnx_file.reading import OnnxNode
from stages.importers.onnx_file.tensors import Array

LARGEST = 2**28
"""Elements of any tensor, of one sample; a file that asks for more is taken for a damaged one."""

FOLDED = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "CastLike",
        "Ceil",
        "Concat",
        "ConstantOfShape",
        "Cos",
        "Div",
        "Equal",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "Range",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Reshape",
        "Round",
        "Shape",
        "Sign",
        "Sin",
        "Size",
        "Slice",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
        "Xor",
        "DequantizeLinear",
        "QuantizeLinear",
    ]
)
"""What is computed where all operands are constants."""


def fold(node: OnnxNode, operands: Sequence[Array | None], opset: int) -> list[Array]:
    """What `node` gives for constant operands; None for one that is left out.

    Raises:
        ValueError: it is not among the operators that are computed so, or its result would be too large.
    """
    if node.op not in FOLDED:
        raise ValueError(f"{node} reads constants alone, and is not computed beforehand. Remedy: onnxsim")
    _check_size(node, operands)
    try:
        with np.errstate(all="ignore"):
            computed = _computed(node, operands, opset)
    except Exception as error:  # of many types: operands that do not fit each other
        raise ValueError(f"{node}: its constants do not fit ({error})") from error
    return [_narrow(np.asarray(x)) for x in computed]


def _computed(node: OnnxNode, operands: Sequence[Array | None], opset: int) -> list[Array]:
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(operands)]
    outputs = [f"y{i}" for i in range(len(node.outputs))]
    attrs = {
        k: onnx.numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in node.attrs.items()
    }
    proto = onnx.helper.make_node(node.op, names, outputs, **attrs)
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape))
        for name, x in zip(names, operands, strict=True)
        if x is not None
    ]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = onnx.helper.make_graph([proto], "constant", infos, results)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    feeds = {name: x for name, x in zip(names, operands, strict=True) if x is not None}
    computed: list[Array] = ReferenceEvaluator(model).run(None, feeds)
    return computed


def _narrow(x: Array) -> Array:
    return x.astype(np.float32) if x.dtype.kind == "f" else x


def _check_size(node: OnnxNode, operands: Sequence[Array | None]) -> None:
    """Raise where few numbers ask for many."""
    sizes = [1 if x is None else x.size for x in operands]
    given, first = operands, operands[0] if operands else None
    if node.op == "ConstantOfShape" and first is not None:
        count = math.prod(max(int(n), 0) for n in first.reshape(-1))
    elif node.op in ("Expand", "Tile") and len(given) == 2 and given[1] is not None:
        count = sizes[0] * math.prod(max(int(n), 1) for n in given[1].reshape(-1))
    elif node.op == "Range" and len(given) == 3 and all(x is not None for x in given):
        start, limit, delta = (float(np.asarray(x).reshape(-1)[0]) for x in given)
        count = math.ceil(abs((limit - start) / delta)) if delta else LARGEST + 1
    elif node.op == "Gather":
        count = math.prod(sizes)
    else:
        shapes = [x.shape for x in operands if x is not None]
        rank = max((len(s) for s in shapes), default=0)
        padded = [(1,) * (rank - len(s)) + s for s in shapes]
        count = max(math.prod(max(axis) for axis in zip(*padded, strict=True)), 0) if rank else 0
        count = count if node.op not in ("Concat", "Reshape", "Slice", "Squeeze", "Unsqueeze") else sum(sizes)
    if count > LARGEST:
        raise ValueError(
            f"{node}: gives {count} constants, and {LARGEST} are the most. The file may be damaged; "
            "remedy: simplify it (onnxsim)"
        )
