"""The state dict in a checkpoint: under which key it stands, and by which prefix all its names begin.

Names are compared with those of the network: a key is taken where it alone fits, a prefix that all names
share is taken off where, and only where, that makes them fit. Where names of one prefix are exactly the
network's, as those of a wrapper that holds a loss or metrics beside the network, the others are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import PipelineError, alternatives

log = logging.getLogger(__name__)

COUNTER = "num_batches_tracked"
"""BatchNorm's counter of batches: some files have it, some do not, and no result depends on it."""

DEPTH = 3
"""How many mappings deep a state dict may lie."""

StateDict = Mapping[str, Tensor]


def find_state_dict(
    checkpoint: object, expected: Mapping[str, str], *, path: Path, key: str | None = None
) -> dict[str, Tensor]:
    """The tensors of `checkpoint` by the names of the network, as far as they have such.

    Args:
        checkpoint: a mapping of names to tensors, or one that holds such under a key, perhaps nested.
        expected: the network's names; of a tensor that has several, each to the first.
        path: of the file, for messages.
        key: where the tensors stand, ``state_dict`` or ``ema.model``; None to look for them.

    Returns:
        The tensors that fit best; whether they fit is the caller's to say.

    Raises:
        PipelineError: there are none, or there are several and no `key` says which.
    """
    found = dict(_candidates(checkpoint))
    if not found:
        raise PipelineError(
            f"model.weights={path}: holds {_described(checkpoint)}, not a mapping of names to tensors.\n"
            "Remedy: save module.state_dict(), not the module."
        )
    fitted = {name: _without_prefix(tensors, expected) for name, tensors in found.items()}
    fitting = [name for name, tensors in fitted.items() if _distance(tensors, expected) == 0]
    if not fitting:  # the network may be a part of what was saved
        parts = dict(_parts(found, expected))
        found, fitted, fitting = {**found, **parts}, {**fitted, **parts}, list(parts)
    if key is not None:
        if key not in found:
            raise PipelineError(
                f"model.key={key}: no tensors stand under that key of {path}; "
                f"{alternatives(key, filter(None, found))}"
            )
        return fitted[key]
    if len(fitting) == 1 or len(found) == 1:
        return fitted[(fitting or list(found))[0]]
    names = [repr(name) if name else "the file itself" for name in fitting or found]
    which = "all have" if fitting else "none of which has"
    raise PipelineError(
        f"model.weights={path}: holds tensors under several keys, {which} the network's names: "
        f"{', '.join(names)}.\nRemedy: say which: model.key={next(n for n in fitting or found if n)}"
    )


def is_optional(name: str) -> bool:
    """Whether a file may lack the tensor `name`, or have it for nothing."""
    return name.endswith(COUNTER)


def _candidates(found: object, prefix: str = "", depth: int = DEPTH) -> Iterator[tuple[str, StateDict]]:
    """All groups of tensors in nested mappings, by the path to them; the mapping itself is ``""``."""
    if not isinstance(found, Mapping):
        return
    tensors = {str(name): tensor for name, value in found.items() if (tensor := _tensor(value)) is not None}
    # an optimizer's state is by number: {0: {"exp_avg": tensor, …}, 1: …}
    if tensors and not all(isinstance(name, int) for name in found):
        yield prefix, tensors
    if depth > 0:
        for name, value in found.items():
            if isinstance(name, str):
                yield from _candidates(value, f"{prefix}.{name}" if prefix else name, depth - 1)


def _parts(
    found: Mapping[str, StateDict], expected: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors whose names, behind one prefix, are exactly the network's; by key and prefix."""
    for key, tensors in found.items():
        steps = [name.split(".") for name in tensors]
        prefixes = dict.fromkeys(".".join(step[:n]) for step in steps for n in range(1, len(step)))
        for prefix in prefixes:
            inner = {
                n.removeprefix(f"{prefix}."): t for n, t in tensors.items() if n.startswith(f"{prefix}.")
            }
            if _distance(inner, expected) == 0:
                others = [name for name in tensors if not name.startswith(f"{prefix}.")]
                log.warning(
                    "%s of a checkpoint left out beside '%s.': %s", len(others), prefix, _some(others)
                )
                yield f"{key}.{prefix}".lstrip("."), inner


def _some(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def _tensor(value: Any) -> Tensor | None:
    """A tensor as it is: of what kind it is, and whether that will do, is said where its name is known."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and value.dtype != np.longdouble:
        return torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
    return None


def _without_prefix(tensors: StateDict, expected: Mapping[str, str]) -> dict[str, Tensor]:
    """The names without so much of what all begin with as makes them fit best; the least, where equal."""
    best = current = dict(tensors)
    while True:
        firsts = {name.partition(".")[0] for name in current}
        if len(firsts) != 1 or not all("." in name for name in current):
            return best
        current = {name.partition(".")[2]: tensor for name, tensor in current.items()}
        if _distance(current, expected) < _distance(best, expected):
            best = current


def _distance(tensors: StateDict, expected: Mapping[str, str]) -> int:
    """How many names are in one of the two only, all names of one tensor counted as one."""
    there = {expected.get(name, name) for name in tensors if not is_optional(name)}
    return len(there ^ {first for name, first in expected.items() if not is_optional(name)})


def _described(checkpoint: object) -> str:
    if not isinstance(checkpoint, Mapping):
        return f"a {type(checkpoint).__name__}"
    keys = [str(key) for key in checkpoint]
    return f"a mapping with the keys {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}" if keys else "{}"
