"""Trained weights from a file into a module, or a refusal that says what does not fit."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.models.checkpoint_file import existing_weights, read_checkpoint
from stages.models.state_dict import find_state_dict, is_optional
from stages.models.tensor_kinds import check_finite, check_kind, dtype_name

log = logging.getLogger(__name__)


def load_weights(
    module: nn.Module, weights: str | None, architecture: str, key: str | None = None
) -> nn.Module:
    """Copy the tensors in the file `weights` into `module`; does nothing for None. Returns `module`.

    The file may hold a state dict under any key, beside whatever else a training writes, and its names may
    share a prefix (``module.``, ``_orig_mod.``, ``model.``), which is taken off where that makes them fit.
    Floats of another width are cast, and the log says so. A tensor that the network has by several names
    needs to be there by one.

    Args:
        module: the network.
        weights: a .safetensors file, or what torch.save wrote; relative to the folder the command starts in.
        architecture: what messages call the module, with the fields that choose it.
        key: under which key of the file the tensors stand; None where that is clear.

    Raises:
        PipelineError: the file is missing or not readable, tensors are missing, unexpected, of another shape
            or kind of number, hold NaN or infinity, or contradict each other.
    """
    if weights is None:
        return module
    path = Path(weights)
    expected = module.state_dict()
    groups = _tied(module, expected)
    names = {n: n for n in expected} | {n: group[0] for group in groups for n in group}
    given = find_state_dict(read_checkpoint(path), names, path=path, key=key)
    for name, tensor in given.items():
        check_kind(name, tensor, f"model.weights={path}")
    tensors = _spread(given, groups, path, expected)
    _check_keys(expected, tensors, path, architecture)
    converted = {n: _converted(n, t, expected[n], path) for n, t in tensors.items() if n in expected}
    _say_casts({n: tensors[n].dtype for n, t in converted.items() if t.dtype != tensors[n].dtype}, path)
    module.load_state_dict(converted, strict=False)
    return module


def weights_fingerprint(weights: str | None) -> str:
    """The sha256 of the file, empty for None. Raises `PipelineError` where it is missing."""
    if weights is None:
        return ""
    with existing_weights(Path(weights)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tied(module: nn.Module, expected: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of each parameter or buffer that has several."""
    names: dict[int, list[str]] = {}
    for named in (module.named_parameters, module.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            if name in expected:
                names.setdefault(id(tensor), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _spread(
    given: Mapping[str, Tensor], groups: list[list[str]], path: Path, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Each tied tensor by all its names. Raises where the file has different values for them."""
    tensors = dict(given)
    for group in groups:
        there = [name for name in group if name in given]
        for name in there[1:]:
            two = given[name], given[there[0]]
            if any(tensor.shape != expected[name].shape for tensor in two):
                continue  # is refused by its shape, which may be a huge one over few bytes
            if not torch.equal(*(tensor.to_dense() for tensor in two)):
                raise PipelineError(
                    f"model.weights={path}: '{there[0]}' and '{name}' are one tensor in the network, and two "
                    "in the file, with different values.\n"
                    "Remedy: choose the network without tied weights that the file was trained as."
                )
        if there:
            tensors |= dict.fromkeys(group, given[there[0]])
    return tensors


def _converted(name: str, tensor: Tensor, expected: Tensor, path: Path) -> Tensor:
    """A tensor in the network's own kind of number. Raises where that is another kind, or is not finite."""
    if tensor.layout != torch.strided:  # its shape is the network's
        try:
            tensor = tensor.to_dense()
        except (RuntimeError, IndexError) as error:
            raise PipelineError(
                f"model.weights={path}: '{name}' is sparse, and damaged ({str(error).splitlines()[0]}).\n"
                "Remedy: save it dense, tensor.to_dense()."
            ) from error
    both = f"{dtype_name(tensor)}, and the network has {dtype_name(expected)}"
    if is_optional(name):
        return tensor
    if tensor.is_floating_point() != expected.is_floating_point():
        raise PipelineError(
            f"model.weights={path}: '{name}' is {both}: levels without their scale say nothing of real "
            "weights.\nRemedy: give the checkpoint of the float network, before any quantization."
            if expected.is_floating_point()
            else f"model.weights={path}: '{name}' is {both}.\nRemedy: save whole numbers."
        )
    if tensor.is_floating_point():
        check_finite(name, tensor, f"model.weights={path}")
        cast = tensor.to(expected.dtype)
        if not torch.isfinite(cast).all():
            raise PipelineError(
                f"model.weights={path}: '{name}' is {both}, which does not hold its values.\n"
                "Remedy: save it as the network has it."
            )
        return cast
    cast = tensor.to(expected.dtype)
    if (tensor.dtype == torch.bool) != (expected.dtype == torch.bool) or not torch.equal(
        cast.to(tensor.dtype), tensor
    ):
        raise PipelineError(
            f"model.weights={path}: '{name}' is {both}, which does not hold its values.\n"
            "Remedy: save it as the network has it."
        )
    return cast


def _say_casts(casts: Mapping[str, torch.dtype], path: Path) -> None:
    """A word for the log where floats were of another width."""
    kinds = sorted({str(dtype).removeprefix("torch.") for dtype in casts.values() if dtype.is_floating_point})
    if kinds:
        log.warning("model.weights=%s: %d tensors cast from %s", path, len(casts), ", ".join(kinds))


def _check_keys(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path, architecture: str
) -> None:
    missing = [n for n in expected if n not in tensors and not is_optional(n)]
    unexpected = [n for n in tensors if n not in expected and not is_optional(n)]
    shapes = [
        f"{n} {list(tensors[n].shape)} instead of {list(expected[n].shape)}"
        for n in expected
        if n in tensors and tensors[n].shape != expected[n].shape
    ]
    problems = [
        f"\n  {len(names)} {title}: {_some(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise PipelineError(
            f"model.weights={path} does not fit {architecture}:{''.join(problems)}\n"
            "Remedy: choose the architecture that the file was trained as (model=…, model.<field>=…) and the "
            "data set whose channels and classes it knows (data=…)."
        )


def _some(names: Iterable[str], count: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:count]) + (", …" if len(listed) > count else "")
