"""The program of a quantized graph: nodes in turn, then values and operators once all scales are known."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from pipeline.errors import alternatives
from stages.importers.onnx_file.fold import FOLDED, fold
from stages.importers.onnx_file.quantized.decompose import decomposed
from stages.importers.onnx_file.quantized.finishing import (
    OpDraft,
    accounts,
    metadata,
    op_of_draft,
    value_of_draft,
)
from stages.importers.onnx_file.quantized.handlers import handlers
from stages.importers.onnx_file.quantized.states import (
    Index,
    Input,
    Padded,
    Pending,
    Real,
    Scale,
    State,
    StoredLevels,
    ValueDraft,
    ValueFunction,
    Weight,
)
from stages.importers.onnx_file.reading import MISFITS, OnnxGraph, OnnxNode
from stages.importers.onnx_file.tensors import Array
from stages.integer.program import Program, Requantize
from stages.integer.validate import validate

log = logging.getLogger(__name__)

OPEN_BATCH = 8191
"""Stands for a batch of any size in arithmetic of shapes: a prime that no size is a multiple of."""


@dataclass
class Quantized:
    """What is known so far.

    Args:
        graph: of the file.
    """

    graph: OnnxGraph
    states: dict[str, State] = field(default_factory=dict)
    ops: dict[str, OpDraft] = field(default_factory=dict)  # by output
    names: set[str] = field(default_factory=set)
    reads: Counter[str] = field(default_factory=Counter)
    batch: int = OPEN_BATCH
    input: ValueDraft | None = None
    said: Mapping[str, Any] = field(default_factory=dict)

    def program(self) -> Program:
        """Follow the nodes to a program."""
        nodes = list(decomposed(self.graph.nodes, self.graph.opset))
        self.reads.update(name for node in nodes for name in node.inputs)
        self.reads.update(self.graph.outputs)
        self.states |= self.graph.constants
        self.said = metadata(self.graph)
        self._inputs()
        for node in nodes:
            try:
                self._follow(node)
            except MISFITS as error:
                text = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ValueError(text if text.startswith(str(node)) else f"{node}: {text}") from error
        return self._finished()

    def _inputs(self) -> None:
        if len(self.graph.inputs) != 1:
            names = ", ".join(one.name for one in self.graph.inputs)
            raise ValueError(f"takes the inputs {names or 'none'}: a program takes one")
        (one,) = self.graph.inputs
        if one.shape is None or not one.shape or any(size is None for size in one.shape[1:]):
            given = "of an open shape" if one.shape is None else f"of shape {list(one.shape)}"
            raise ValueError(
                f"input '{one.name}' is {given}: all but the batch must be fixed. Remedy: python -m "
                f"onnxruntime.tools.make_dynamic_shape_fixed --input_name {one.name} --input_shape …"
            )
        self.batch = one.shape[0] or OPEN_BATCH
        shape = cast(tuple[int, ...], tuple(one.shape[1:]))
        if one.dtype in ("int8", "uint8"):
            self.input = self.draft(one.name, shape, np.dtype(one.dtype), Scale())
            self.states[one.name] = StoredLevels(self.input)
        else:
            self.states[one.name] = Input(shape)

    def _follow(self, node: OnnxNode) -> None:
        if node.op == "Shape":
            shape = (self.batch, *self.shape(node.inputs[0]))
            own = np.array(shape, np.int64)[node.attrs.get("start", 0) : node.attrs.get("end")]
            self.states[node.outputs[0]] = own
            return
        operands = [self.states.get(name) for name in node.inputs]
        if node.op in FOLDED and not self._keeps(node, operands) and _constant(operands):
            plain = [x.real if isinstance(x, Weight) else cast("Array | None", x) for x in operands]
            self.states.update(zip(node.outputs, fold(node, plain, self.graph.opset), strict=False))
            return
        known = handlers()
        if node.op not in known:
            raise ValueError(
                "has no form in an integer program. Remedy: a network without it, or the float network "
                f"(model=onnx quantizes it); {alternatives(node.op, known)}"
            )
        result = known[node.op](self, node)
        results = result if isinstance(result, list) else [result]
        self.states.update(zip(node.outputs, results, strict=False))

    def _keeps(self, node: OnnxNode, operands: Sequence[State | None]) -> bool:
        """Whether constants stay what they are: levels with their scale, or one sample of a whole batch."""
        first = operands[0] if operands else None
        if node.op == "Expand" and isinstance(sizes := operands[-1], np.ndarray):
            levels = isinstance(first, Weight) or (isinstance(first, np.ndarray) and first.dtype != np.int64)
            return levels and sizes.size > 0 and int(sizes.reshape(-1)[0]) == self.batch
        return node.op == "DequantizeLinear" or (
            node.op in ("Transpose", "Identity") and isinstance(first, Weight)
        )

    # what handlers ask

    def state(self, node: OnnxNode, place: int) -> State:
        """An operand. Raises ValueError where it is left out."""
        name = node.inputs[place] if place < len(node.inputs) else ""
        if name not in self.states:
            raise ValueError(f"operand {place} is missing; the file is damaged")
        return self.states[name]

    def array(self, node: OnnxNode, place: int, what: str) -> Array | None:
        """A constant operand; None where it is left out. Raises ValueError for one that is computed."""
        if place >= len(node.inputs) or not node.inputs[place]:
            return None
        state = self.state(node, place)
        if isinstance(state, Weight):
            return state.real
        if not isinstance(state, np.ndarray):
            raise ValueError(f"{what} depends on the input's values. Remedy: constants")
        return state

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one sample of a tensor that is no constant."""
        state = self.states[name]
        if isinstance(state, Input | Pending):
            return state.shape
        if isinstance(state, StoredLevels | Real | Index | ValueFunction):
            return state.value.shape
        if isinstance(state, Padded):
            sizes = zip(state.value.shape, state.before, state.after, strict=True)
            return tuple(b + n + a for n, b, a in sizes)
        raise ValueError(f"'{name}' is a constant")

    def draft(self, name: str, shape: Sequence[int], dtype: np.dtype[Any], own: Scale) -> ValueDraft:
        """A new value, named after the tensor of its levels."""
        base = name
        for suffix in (
            "/q",
            "/rounded",
            "/dq",
            "_QuantizeLinear_Output",
            "_quantized",
            "_DequantizeLinear_Output",
        ):
            base = base.removesuffix(suffix)
        base = base if base and base not in self.names else name
        while base in self.names:
            base += "_"
        self.names.add(base)
        return ValueDraft(base, tuple(int(n) for n in shape), dtype, own)

    def emit(
        self, pending: Pending, output: ValueDraft, low: int | None = None, high: int | None = None
    ) -> ValueDraft:
        """An operator that computes `output`, between levels as stored."""
        info = np.iinfo(output.dtype)
        low, high = info.min if low is None else low, info.max if high is None else high
        self.ops[output.name] = OpDraft(pending.op, pending.inputs, output, pending, low, high)
        return output

    def moved(
        self, node: OnnxNode, x: ValueDraft, op: str, shape: Sequence[int], output: int = 0, /, **attrs: Any
    ) -> ValueDraft:
        """An operator that only moves levels."""
        value = self.draft(node.outputs[output], shape, x.dtype, x.own)
        pending = Pending(op, (x,), value.shape, lambda *_: ({}, {}), attrs, source=str(node))
        return self.emit(pending, value)

    # the end

    def _finished(self) -> Program:
        output = self._output()
        if self.input is None:
            raise ValueError("its input is not quantized. Remedy: quantize the whole network")
        ops = self._of_use(output)
        used = [self.input, *(op.output for op in ops)]
        said = accounts(used, self.said)
        values = {draft.name: value_of_draft(draft, said.get(id(draft.own))) for draft in used}
        program = Program(
            values=values,
            ops=tuple(op_of_draft(op, values, self.said) for op in ops),
            input=self.input.name,
            output=output.name,
            requantize=cast(Requantize, self.said.get("requantize", "float")),
        )
        validate(program)
        return program

    def _output(self) -> ValueDraft:
        name = self.graph.outputs[0]
        if len(self.graph.outputs) > 1:
            log.info("gives %s: the first is taken", ", ".join(self.graph.outputs))
        state = self.states[name]
        if isinstance(state, Pending) and state.op == "softmax" and not state.bounded:
            log.info("softmax at its end is left out: it gives logits")
            return state.inputs[0]
        if isinstance(state, StoredLevels) or (isinstance(state, Real) and state.factor == 1.0):
            return state.value
        source = state.source if isinstance(state, Pending) else f"'{name}'"
        raise ValueError(
            f"the output '{name}', of {source}, is not quantized. Remedy: QuantizeLinear and "
            "DequantizeLinear after it"
        )

    def _of_use(self, output: ValueDraft) -> list[OpDraft]:
        needed, kept = {output.name}, []
        for op in reversed(list(self.ops.values())):
            if op.output.name in needed:
                kept.append(op)
                needed |= {x.name for x in op.inputs}
        return kept[::-1]


Handler = Callable[[Quantized, OnnxNode], Any]
"""What becomes of a node: a state, or a list of them; raises ValueError, without the node's name."""


def program_of(graph: OnnxGraph) -> Program:
    """The program of a quantized graph, `requantize` ``float`` but in files that say otherwise.

    Raises:
        ValueError: an operator that has no form in integers or reads what is not quantized; names it.
    """
    return Quantized(graph).program()


def _constant(operands: Sequence[State | None]) -> bool:
    return all(x is None or isinstance(x, np.ndarray | Weight) for x in operands)
