"""Trained weights from a file into a module, or a refusal that says what does not fit."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import PipelineError

COUNTER = "num_batches_tracked"
"""BatchNorm's counter of batches: some files have it, some do not, and no result depends on it."""


def load_weights(module: nn.Module, weights: str | None, architecture: str) -> nn.Module:
    """Copy the tensors in the file `weights` into `module`; does nothing for None. Returns `module`.

    A .pt or .pth file may be a state dict or hold one as ``state_dict``, and its keys may begin with
    ``module.``, as `torch.nn.DataParallel` leaves them.

    Args:
        module: the network.
        weights: a .safetensors, .pt or .pth file; relative to the folder the command starts in.
        architecture: what messages call the module, with the fields that choose it.

    Raises:
        PipelineError: the file is missing or not readable, tensors are missing, unexpected or of another
            shape, or hold NaN or infinity.
    """
    if weights is None:
        return module
    path = Path(weights)
    tensors = _read(path)
    _check_keys(module.state_dict(), tensors, path, architecture)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise PipelineError(
                f"model.weights={path}: '{name}' holds NaN or infinity in {bad} of {tensor.numel()} places.\n"
                "Remedy: the training that wrote it diverged; take an earlier checkpoint."
            )
    module.load_state_dict(tensors, strict=False)
    return module


def weights_fingerprint(weights: str | None) -> str:
    """The sha256 of the file, empty for None. Raises `PipelineError` where it is missing."""
    if weights is None:
        return ""
    with _existing(Path(weights)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise PipelineError(
            f"model.weights={path}: no such file (looked in {Path.cwd()}).\n"
            "Remedy: give model.weights=<file.safetensors or .pt>, or null to train from random weights."
        )
    return path


def _read(path: Path) -> dict[str, Tensor]:
    _existing(path)
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise PipelineError(
            f"model.weights={path}: not readable as weights ({str(error).splitlines()[0]}).\n"
            "Remedy: save a plain state dict, safetensors.torch.save_file(module.state_dict(), …)."
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise PipelineError(
            f"model.weights={path}: holds {type(found).__name__}, not a mapping of names to tensors.\n"
            "Remedy: save module.state_dict(), not the module."
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}


def _check_keys(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path, architecture: str
) -> None:
    missing = [n for n in expected if n not in tensors and not n.endswith(COUNTER)]
    unexpected = [n for n in tensors if n not in expected and not n.endswith(COUNTER)]
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
