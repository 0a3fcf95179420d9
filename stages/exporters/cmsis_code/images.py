"""Pools as calls, and what all calls on images, (H, W, C), have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stages.exporters.cmsis_code.scratch import Scratch, average_pool
from stages.exporters.cmsis_code.writer import CmsisWriter, NoCallError
from stages.exporters.tflite_file.layout import IMAGE, TensorLayout
from stages.integer.program import Op, Value

MAX_SIZE = 2**16 - 1
"""The largest size of an image or window: arm_convolve_s8 counts in uint16_t."""


def avg_pool2d(w: CmsisWriter, op: Op) -> None:
    """Averages over the pixels of a window that lie in the image."""
    x, y = w.value_of(op)
    if (x.scale, x.zero_point) != (y.scale, y.zero_point):
        raise NoCallError(op, "its scale is not its input's", "convert.arithmetic=tflm")
    _pool(w, op, "arm_avgpool_s8", average_pool(x.shape[0]), activation(op))


def max_pool2d(w: CmsisWriter, op: Op) -> None:
    """The largest levels of windows."""
    if tuple(op.attrs["dilation"]) != (1, 1):
        raise NoCallError(op, f"dilation={tuple(op.attrs['dilation'])}", "a pool without dilation")
    _pool(w, op, "arm_max_pool_s8", Scratch(), {"activation": {"min": -128, "max": 127}})


def every_nth(w: CmsisWriter, op: Op) -> None:
    """Every n-th row and column: the largest level of windows of one pixel."""
    starts, ends, steps = (tuple(op.attrs[name]) for name in ("starts", "ends", "steps"))
    x, _ = w.value_of(op)
    if len(x.shape) != 3 or any(starts) or (ends[0], steps[0]) != (x.shape[0], 1):
        raise NoCallError(op, "cuts otherwise than to every n-th pixel", "a network without it")
    attrs = {"kernel": (1, 1), "stride": steps[1:], "padding": (0, 0), "dilation": (1, 1)}
    max_pool2d(w, replace(op, attrs=attrs))


def _pool(w: CmsisWriter, op: Op, call: str, scratch: Scratch, bounds: dict[str, Any]) -> None:
    x, y = w.value_of(op)
    source, target = images(w, op)
    stride, padding = (tile(op.attrs[name]) for name in ("stride", "padding"))
    w.call(
        call,
        w.context(scratch),
        w.structure("pool_params", "params", stride=stride, padding=padding, **bounds),
        image_dims(w, "dims_input", x),
        source,
        w.dims("dims_filter", 1, *op.attrs["kernel"], 1),
        image_dims(w, "dims_output", y),
        target,
        reads=[source],
    )


def images(w: CmsisWriter, op: Op) -> tuple[str, str]:
    """The input's tensor and a new one for the output."""
    x, y = w.value_of(op)
    if max(*x.shape, *y.shape) > MAX_SIZE:
        raise NoCallError(op, f"has sizes above {MAX_SIZE}", "smaller images")
    source = w.at(op, x.name, TensorLayout(sizes=x.shape, order=IMAGE))
    return source, w.declare(op.output, TensorLayout(sizes=y.shape, order=IMAGE))


def tile(pair: Sequence[int]) -> dict[str, int]:
    """The fields of (rows, columns)."""
    return {"w": pair[1], "h": pair[0]}


def activation(op: Op) -> dict[str, dict[str, int]]:
    """The field of an operator's bounds."""
    return {"activation": {"min": op.attrs["act_min"], "max": op.attrs["act_max"]}}


def image_dims(w: CmsisWriter, role: str, value: Value) -> str:
    """The dimensions of an image (C, H, W)."""
    return w.dims(role, 1, *value.shape[1:], value.shape[0])
