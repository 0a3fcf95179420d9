"""From a `torch.nn.Module` to a `Graph`, through ``torch.export``.

The module is exported in evaluation mode with a batch whose size tells it from all other dimensions
(`stages.graph.aten.batch`), and translated call by call (`stages.graph.translate`). The result is then run
beside the module on random input, so that a graph that computes something else never leaves this function.
"""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.graph.aten.batch import batch_size
from stages.graph.aten.precision import Float32Casts
from stages.graph.execute import execute
from stages.graph.ir import Graph
from stages.graph.logits import without_last_softmax
from stages.graph.translate import translate

log = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Largest difference between module and graph, relative to the largest output."""

_TALKERS = ("torch.export", "torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
"""Loggers that say a refusal before it is raised."""

AUTOCAST = 2e-2
"""The same where the module computes some of it with 8 or 11 bits, and the graph with 24."""


def capture(
    module: nn.Module,
    shape: tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    output: str | int | None = None,
) -> Graph:
    """Capture `module`, which maps (N, *shape) to one tensor (N, …), or several, as a graph.

    Parameters are copied; the module is left in the mode it was in. Python's branches on ``self.training``
    are taken as in evaluation. What training does otherwise is kept for quantized training: dropout, the
    momentum of BatchNorm, which parameters are frozen, and which layers share one. Softmax over the classes
    at the end is left out, and the log says so (`stages.graph.logits`).

    Args:
        module: the network; one of another float type than float32 is cast, and the log says so.
        shape: of one sample of its input.
        dtype: of the input: float32, or int64 for tokens.
        output: which of several results, by key or position; None for the first.

    Raises:
        PipelineError: control flow that depends on data, samples of a batch that are mixed, recurrence, an
            output that there is not, or a graph that does not reproduce the module.
    """
    _check_modules(module)
    own = module
    module = _float32(module)
    casts: AbstractContextManager[Any] = nullcontext() if module is own else Float32Casts()
    training = module.training
    module.eval()
    try:
        example = _example(module, shape, dtype)
        exported = _export(module, example, casts)
        place = _output(exported, module, output)
        graph = _cumulative(module, translate(exported, len(example), place))
        with casts:
            _verify(module, graph, shape, dtype, place, AUTOCAST if _autocasts(exported) else TOLERANCE)
    finally:
        module.train(training)
    graph, left_out = without_last_softmax(graph)
    if left_out:
        log.info("%s: %s at its end is left out: it gives logits", type(module).__name__, left_out)
    return graph


def _check_modules(module: nn.Module) -> None:
    """Raise where parts are TorchScript, or lazy layers that have not seen their input yet."""
    scripted = [
        name or "it" for name, own in module.named_modules() if isinstance(own, torch.jit.ScriptModule)
    ]
    if scripted:
        raise PipelineError(
            f"{type(module).__name__} holds TorchScript, which cannot be traced: {scripted[0]}.\n"
            "Remedy: build the module in Python, and load its weights from a state dict."
        )
    tensors = (*module.named_parameters(), *module.named_buffers())
    lazy = [name for name, tensor in tensors if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise PipelineError(
            f"{type(module).__name__} has parameters without a shape: {', '.join(lazy)}.\n"
            "Remedy: run it once on an input where it is built, before its weights are loaded."
        )


def _float32(module: nn.Module) -> nn.Module:
    """The module, or a copy of it in float32 where it has another float type."""
    tensors = (*module.parameters(), *module.buffers())
    others = {t.dtype for t in tensors if t.is_floating_point() and t.dtype != torch.float32}
    if not others:
        return module
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
    log.info("%s: cast from %s to float32", type(module).__name__, names)
    return copy.deepcopy(module).float()


def _example(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An input whose batch has a size of its own. Tracing reads no value of it, so that none is written."""
    sizes = {size for tensor in (*module.parameters(), *module.buffers()) for size in tensor.shape}
    return torch.empty(batch_size({*sizes, *shape}), *shape, dtype=dtype)


def _export(
    module: nn.Module, example: Tensor, casts: AbstractContextManager[Any]
) -> torch.export.ExportedProgram:
    try:
        # on the error output torch prints whole graphs of what it does not take
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), _silent(*_TALKERS), casts:
            warnings.simplefilter("ignore")
            return torch.export.export(module, (example,))
    except Exception as error:  # torch.export raises many types; all mean "not traceable"
        raise _not_traced(module, example, error) from error


@contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Keep loggers from saying, with a stack, what the exception says."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _not_traced(module: nn.Module, example: Tensor, error: Exception) -> PipelineError:
    """What to say of a module that torch.export does not take: it may not take such samples at all."""
    shape = ("N", *example.shape[1:])
    try:
        with torch.inference_mode():
            module(torch.zeros_like(example[:2]))
    except Exception as own:  # of the user's code, of any type
        remedy = (
            "give samples of the shape that it takes (settings of data), build it for these (model.args), "
            "or correct its forward()"
        )
        parameters = signature(module.forward).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if len(needed) > 1:
            shapes = ", ".join(f"{name}: [SHAPE]" for name in needed)
            remedy = f"model.inputs={{{shapes}}} says how a sample holds them"
        return PipelineError(
            f"model: {type(module).__name__} fails on input {shape}: {_first_line(own)}\nRemedy: {remedy}."
        )
    return PipelineError(
        f"{type(module).__name__} cannot be traced by torch.export on input {shape}: {_first_line(error)}\n"
        "Remedy: keep forward() free of Python control flow that depends on tensor values, "
        "and of fixed batch sizes."
    )


def _first_line(error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return f"{type(error).__name__}: {reason[0] if reason else ''}"


def _output(exported: torch.export.ExportedProgram, module: nn.Module, output: str | int | None) -> int:
    """The position of the chosen result among all, flattened."""
    results = next(node for node in exported.graph.nodes if node.op == "output").args[0]
    spec: Any = exported.call_spec.out_spec
    tree = torch.utils._pytree.tree_unflatten([*results], spec)
    paths, _ = torch.utils._pytree.tree_flatten_with_path(tree)
    names = [".".join(_step(step) for step in path) for path, _ in paths]
    tensors = [i for i, result in enumerate(results) if isinstance(result, torch.fx.Node)]
    if output is None and tensors:
        if len(tensors) > 1:
            listed = ", ".join(names[i] for i in tensors)
            log.info("%s gives %s: the first is taken (model.output=…)", type(module).__name__, listed)
        return tensors[0]
    if not tensors:
        raise PipelineError(
            f"model: {type(module).__name__} returns no tensor that depends on its input.\n"
            "Remedy: let forward() return the result."
        )
    chosen = [i for i in tensors if str(output) in (names[i], names[i].split(".")[-1])]
    if len(chosen) != 1 and names == [""]:
        raise PipelineError(
            f"model.output={output}: {type(module).__name__} gives one tensor, which has no name.\n"
            "Remedy: model.output=null"
        )
    if len(chosen) != 1:
        raise PipelineError(
            f"model.output={output}: {type(module).__name__} gives no such tensor.\n"
            f"Remedy: one of {', '.join(names[i] for i in tensors)}."
        )
    return chosen[0]


def _step(step: Any) -> str:
    return str(getattr(step, "key", getattr(step, "idx", getattr(step, "name", step))))


def _cumulative(module: nn.Module, graph: Graph) -> Graph:
    """Mark the BatchNorms whose statistics are the mean of all batches: traced, they have momentum 0."""
    averaging = {
        name: int(norm.num_batches_tracked or 0)
        for name, norm in module.named_modules(remove_duplicate=False)
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.momentum is None
    }
    nodes = (
        replace(node, attrs={**node.attrs, "momentum": None, "batches": averaging[node.module]})
        if node.op == "batch_norm" and node.module in averaging
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _autocasts(exported: torch.export.ExportedProgram) -> bool:
    """Whether a part of the module runs under ``torch.autocast``, which the graph does not."""
    regions = (node for node in exported.graph.nodes if "autocast" in str(node.target))
    return any(True in region.args for region in regions)


def _verify(
    module: nn.Module,
    graph: Graph,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    place: int,
    tolerance: float = TOLERANCE,
) -> None:
    """Raise unless graph and module agree on random input."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *shape, generator=generator)
    if not dtype.is_floating_point:
        x = torch.randint(0, 2, (2, *shape), generator=generator)
    with torch.inference_mode():
        expected = torch.utils._pytree.tree_leaves(module(x.to(dtype, copy=True)))[place].float()
        actual = execute(graph, x.float())
        alone = execute(graph, x[1:].float())
    if not expected.numel():
        raise PipelineError(
            f"model: {type(module).__name__} gives {('N', *expected.shape[1:])}, which holds no numbers.\n"
            "Remedy: build it with at least one output (model.args)"
        )
    if not torch.isfinite(expected).all():
        wrong = [name for name, tensor in module.state_dict().items() if not torch.isfinite(tensor).all()]
        which = f"in its weights, {', '.join(wrong[:3])}" if wrong else "by what it computes, as a logarithm"
        raise PipelineError(
            f"model: {type(module).__name__} gives NaN or infinity on standard normal input, {which}.\n"
            "Remedy: other weights (model.weights=…), or correct its forward()."
        )
    limit = tolerance * max(1.0, expected.abs().max().item())
    error = (actual - expected).abs().max().item() if actual.shape == expected.shape else float("inf")
    if error > limit:
        raise PipelineError(
            f"The captured graph of {type(module).__name__} differs from the module by {error:.3g}. "
            "Remedy: avoid in-place changes of tensors that are read again through a view, and results that "
            "depend on the number of samples."
        )
    if (alone - actual[1:]).abs().max().item() > limit:
        raise PipelineError(
            f"{type(module).__name__} mixes the samples of a batch: one of two gets another result alone. "
            "Remedy: let every operation keep to one sample (dimensions and statistics without the batch)."
        )
