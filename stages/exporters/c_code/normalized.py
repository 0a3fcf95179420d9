"""How softmax and normalizations become calls."""

from __future__ import annotations

import math

import numpy as np

from stages.exporters.c_code.computed import bounds
from stages.exporters.c_code.literals import Sizes, broadcast
from stages.exporters.c_code.writer import CWriter
from stages.integer.kernels.group_norm import size_of, spread_bits, unit_bits
from stages.integer.program import Op


def softmax(w: CWriter, op: Op) -> None:
    """Exponentials by a table, a division an entry."""
    (x, *keep), y = w.values_of(op)
    own = broadcast(keep[0].shape, x.shape) if keep else (0,) * len(x.shape)
    walk, strides = w.walk(x.shape, own)
    structure = w.structure(
        "softmax",
        **along(x.shape, op.attrs["axis"]),
        exponentials=w.data("exponentials", op.tensors["exponentials"]),
        inverse=f"{int(op.tensors['inverse_scale'][0])}LL",
        **bounds(op, y),
        zero_keep=keep[0].zero_point if keep else 0,
        **walk,
        keep=strides[0],
    )
    w.call("softmax", structure, w.at(x), w.at(keep[0]) if keep else 0, w.at(y))


def layer_norm(w: CWriter, op: Op) -> None:
    """Normalization of rows."""
    (x,), y = w.values_of(op)
    structure = w.structure(
        "layer_norm",
        rows=math.prod(x.shape[:-1]),
        size=x.shape[-1],
        zero_x=x.zero_point,
        **bounds(op, y),
        shift=op.attrs["shift"],
        narrow=op.attrs["narrow"],
        wide_x=int(x.wide),
        wide_y=int(y.wide),
        epsilon=f"{op.attrs['epsilon']}LL",
        gamma=w.data("gamma", op.tensors["gamma"]),
        offset=_offset(w, op),
    )
    w.call("layer_norm", structure, w.at(x), w.at(y))


def rms_norm(w: CWriter, op: Op) -> None:
    """Division by the root of the mean square."""
    (x,), y = w.values_of(op)
    structure = w.structure(
        "rms_norm",
        **along(x.shape, op.attrs["axis"]),
        zero_x=x.zero_point,
        **bounds(op, y),
        shift=op.attrs["shift"],
        epsilon=f"{op.attrs['epsilon']}LL",
        floor=f"{op.attrs['floor']}LL",
        gamma=w.data("gamma", op.tensors["gamma"]),
    )
    w.call("rms_norm", structure, w.at(x), w.at(y))


def group_norm(w: CWriter, op: Op) -> None:
    """Normalization of groups of channels."""
    (x,), y = w.values_of(op)
    size = size_of(x.shape, op.attrs["groups"])
    structure = w.structure(
        "group_norm",
        groups=op.attrs["groups"],
        channels=x.shape[0],
        inner=math.prod(x.shape[1:]),
        zero_x=x.zero_point,
        **bounds(op, y),
        shift=op.attrs["shift"],
        bits=spread_bits(size),
        units=unit_bits(size),
        epsilon=f"{op.attrs['epsilon']}LL",
        gamma=w.data("gamma", op.tensors["gamma"]),
        offset=_offset(w, op),
    )
    w.call("group_norm", structure, w.at(x), w.at(y))


def along(shape: Sizes, axis: int) -> dict[str, int]:
    """The fields of a walk along one dimension."""
    return {"outer": math.prod(shape[:axis]), "axis": shape[axis], "inner": math.prod(shape[axis + 1 :])}


def _offset(w: CWriter, op: Op) -> str:
    return w.data("offset", op.tensors["beta"] + np.int64(1 << (op.attrs["shift"] - 1)))
