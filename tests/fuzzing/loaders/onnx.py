"""An .onnx file, quantized or float: bytes change, or fields of the message."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError

from stages.backends.native_kernels import library
from stages.exporters.onnx_graph.qdq import program_to_onnx
from stages.graph.lower import lower
from stages.importers.model import ImportedModel
from tests.fuzzing.changes import NUMBERS, real, shaken
from tests.fuzzing.loaders.program import runs_alike
from tests.fuzzing.running import said
from tests.stages.importers.files import model
from tests.stages.reporting.conftest import make_run


def prepare() -> None:
    """Compile the engine now, and not in the first case's time."""
    library.find_library()


@cache
def bases() -> tuple[bytes, ...]:
    """A quantized network, and a float one."""
    quantized = program_to_onnx(lower(make_run(["conv", "linear"]).model.quantized, "float"))
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, generator=generator).numpy()
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["c"], ["r"], name="relu"),
        onnx.helper.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        onnx.helper.make_node("Flatten", ["p"], ["y"], name="flat"),
    ]
    return quantized.SerializeToString(), model(nodes, ["n", 3, 4, 4], {"w": weight}).SerializeToString()


def _fields(message: onnx.ModelProto, rng: random.Random) -> bytes:
    """The message with one of its numbers changed: dimensions, attributes, types."""
    lists = [tensor.dims for tensor in message.graph.initializer if tensor.dims]
    attributes = [a for node in message.graph.node for a in node.attribute]
    lists += [a.ints for a in attributes if a.ints]
    chosen = rng.randrange(4)
    number = max(-(2**63), min(2**63 - 1, rng.choice(NUMBERS)))
    if chosen == 0 and attributes:
        rng.choice(attributes).i = number
    elif chosen == 1:
        rng.choice(message.graph.initializer).data_type = rng.randrange(30)
    elif chosen == 2:
        node = rng.choice(message.graph.node)
        node.op_type = rng.choice(message.graph.node).op_type
    elif lists:
        values = rng.choice(lists)
        values[rng.randrange(len(values))] = number
    return bytes(message.SerializeToString())


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
    number = rng.randrange(2)
    content = bases()[number]
    if rng.random() < 0.5:
        try:
            content = _fields(onnx.load_from_string(content), rng)
        except DecodeError:
            return "the base is no file"
    else:
        content = shaken(content, rng)
    path = folder / "net.onnx"
    path.write_bytes(content)
    imported = ImportedModel(path=str(path))
    try:
        if number == 0:
            program = imported.program()
            return "refused" if program is None else runs_alike(program, rng)
        module = imported.build((3, 4, 4), 16)
    except ValueError as error:
        return said(error)
    try:
        with torch.inference_mode():
            out = module(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    except (ValueError, RuntimeError, IndexError):
        return "refused"  # as any module that does not fit its data: capture names the layer
    return "equal" if isinstance(out, torch.Tensor) and real(out.numpy()) else "mistrusted"
