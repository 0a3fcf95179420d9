"""A checkpoint file as plain objects and tensors: no code of the file ever runs.

``.safetensors`` holds tensors alone. All else is read by ``torch.load(weights_only=True)``, whose unpickler
calls nothing but what it lists. Beside torch's own list stand what training frameworks write next to tensors
and what only holds values: numpy's arrays and scalars, containers, `argparse.Namespace`, paths.
"""

from __future__ import annotations

import argparse
import codecs
import collections
import pathlib
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from pipeline.errors import PipelineError

_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")
_NAMED = re.compile(r"(?:GLOBAL|build|class|Unsupported class) ([A-Za-z_][\w.]*\.\w+)")


MAX_RATIO = 20
"""The most that an archive unpacks to, in its own bytes; torch stores tensors as they are."""


def _plain_types() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What may stand in a checkpoint beside tensors, with the names that files of older versions have."""
    core: Any = import_module("numpy._core.multiarray")
    listed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        np.ndarray,
        np.dtype,
        codecs.encode,
        collections.defaultdict,
        collections.deque,
        collections.Counter,
        set,
        frozenset,
        dict,
        list,
        argparse.Namespace,
        *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type)),
    ]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        listed += [(core.scalar, f"{module}.scalar"), (core._reconstruct, f"{module}._reconstruct")]
    pure = {"PosixPath": pathlib.PurePosixPath, "WindowsPath": pathlib.PureWindowsPath}
    for module in ("pathlib", "pathlib._local"):  # the latter since Python 3.13
        listed += [(cls, f"{module}.{name}") for name, cls in pure.items()]
        listed += [(cls, f"{module}.Pure{name}") for name, cls in pure.items()]
    return listed


def read_checkpoint(path: Path) -> object:
    """What the file holds, tensors on the CPU.

    Args:
        path: .safetensors, or what ``torch.save`` wrote, under any name.

    Raises:
        PipelineError: the file is missing, damaged, or holds objects that only code of its own could make: a
            whole module, a class of a training framework, TorchScript. Names the type and the lines that
            convert it.
    """
    existing_weights(path)
    try:
        _refuse_programs(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_plain_types()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except PipelineError:
        raise
    except pickle.UnpicklingError as error:
        raise PipelineError(_unpickled(path, error)) from error
    except Exception as error:  # of any bytes, the unpickler raises any: IndexError, AttributeError, …
        text = f"{type(error).__name__}: {_TERMINAL.sub('', str(error)).strip()}"
        raise PipelineError(
            f"model.weights={path}: not readable as weights ({text.splitlines()[0]}).\n"
            "Remedy: the file may be damaged or cut short; copy it again, or save a plain state dict, "
            "safetensors.torch.save_file(module.state_dict(), …)."
        ) from error


def existing_weights(path: Path) -> Path:
    """`path`, where there is such a file. Raises `PipelineError` where there is not."""
    if path.exists() and not path.is_file():  # to open a FIFO is to wait for who writes into it
        raise PipelineError(
            f"model.weights={path}: is no regular file, but a folder, FIFO or device.\n"
            "Remedy: give the file itself, model.weights=<file.safetensors or .pt>."
        )
    if not path.is_file():
        raise PipelineError(
            f"model.weights={path}: no such file (looked in {Path.cwd()}).\n"
            "Remedy: give model.weights=<file.safetensors or .pt>, or null to train from random weights."
        )
    return path


def _refuse_programs(path: Path) -> None:
    """TorchScript and exported programs are zip files, as checkpoints are, but hold code beside tensors.

    Raises `PipelineError` for them, and for what says that it unpacks to far more than its bytes.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    check_ratio(infos, path, f"model.weights={path}")
    names = {info.filename.partition("/")[2] for info in infos}
    if "constants.pkl" in names:
        raise PipelineError(torchscript_refusal(f"model.weights={path}", path))
    if "archive_format" in names:
        raise PipelineError(
            f"model.weights={path}: a program of torch.export, not weights.\n"
            f"Remedy: model=exported model.path={path}"
        )


def check_ratio(infos: Iterable[zipfile.ZipInfo], path: Path, where: str) -> None:
    """Raise `PipelineError` where an archive's members say that they unpack to far more than its bytes."""
    total, own = sum(info.file_size for info in infos), path.stat().st_size
    if total > MAX_RATIO * own + 2**20:
        raise PipelineError(
            f"{where}: its members say that they have {total / 2**30:.1f} GiB, in a file of "
            f"{own / 2**20:.1f} MiB: torch compresses nothing.\n"
            "Remedy: take the file from its source again; where you trust it, load and save it anew by torch."
        )


def torchscript_refusal(where: str, path: Path) -> str:
    """What to say of a TorchScript archive at `path`, given as `where`."""
    return (
        f"{where}: TorchScript, which holds compiled code, and no network that can be captured.\n"
        "Remedy: keep its weights, and give the network's own class as the model (model=torch "
        "model.target=my_package.Net):\n"
        f"  module = torch.jit.load({str(path)!r}, map_location='cpu')\n"
        f"  torch.save(module.state_dict(), {_converted(path)!r})"
    )


def _unpickled(path: Path, error: pickle.UnpicklingError) -> str:
    """The type that is not read, and how to make a file without it."""
    text = _TERMINAL.sub("", str(error))
    kinds = _foreign_types(path) or _NAMED.findall(text)
    if not kinds:
        reason = next((line for line in text.splitlines() if line.strip()), "")
        detail = text.partition("WeightsUnpickler error:")[2].strip().splitlines()
        return (
            f"model.weights={path}: not readable as weights ({detail[0] if detail else reason}).\n"
            "Remedy: save a plain state dict, safetensors.torch.save_file(module.state_dict(), …)."
        )
    whole = any(kind.startswith("torch.nn.modules.") for kind in kinds)
    what = "a pickled module" if whole else "objects beside tensors"
    state = "found.state_dict()" if whole else "found['state_dict']"
    note = (
        "found['model'].state_dict() where the file is a mapping with the module under a key"
        if whole
        else ("or the key that holds the tensors")
    )
    named = ", ".join(kinds[:3]) + (", …" if len(kinds) > 3 else "")
    return (
        f"model.weights={path}: holds {what} of type {named}; "
        "reading it would run code of the file, so it is not readable as weights here.\n"
        "Remedy: where you trust its source, save a plain state dict, by two lines of Python:\n"
        f"  found = torch.load({str(path)!r}, map_location='cpu', weights_only=False)\n"
        f"  torch.save({state}, {_converted(path)!r})  # {note}"
    )


def _foreign_types(path: Path) -> list[str]:
    """The types that are not on the list, by name: read from the pickle, not made. Empty where unknown."""
    try:
        with torch.serialization.safe_globals(_plain_types()):
            found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # an old or damaged file: the message of the error has the first name
        return []
    own = [name for name in found if not name.startswith(("torch.nn.modules.", "collections."))]
    return sorted(own) + sorted(set(found) - set(own))


def _converted(path: Path) -> str:
    return f"{path.stem}_weights.pt"
