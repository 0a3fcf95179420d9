"""How operators become calls that TFLite Micro computes otherwise than the ratios say."""

from __future__ import annotations

import math

import numpy as np

from stages.exporters.c_code.computed import average, bounds, pool
from stages.exporters.c_code.literals import broadcast
from stages.exporters.c_code.normalized import along
from stages.exporters.c_code.writer import CWriter
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.profiles.tflm.add import LEFT_SHIFT
from stages.integer.profiles.tflm.mean import dividing
from stages.integer.profiles.tflm.softmax import exponential_tables
from stages.integer.program import Op


def scaled_sum(w: CWriter, op: Op) -> None:
    """add and subtract; `stages.integer.profiles.tflm.add` states the three multipliers."""
    (a, b), y = w.values_of(op)
    twice = 2.0 * max(a.scale, b.scale)
    ratios = [w.fixed(*quantize_multiplier(x.scale / twice)) for x in (a, b)]
    walk, strides = w.walk(y.shape, *(broadcast(x.shape, y.shape) for x in (a, b)))
    structure = w.structure(
        "scaled_sum",
        ratios=ratios,
        last=w.fixed(*quantize_multiplier(twice / (2.0**LEFT_SHIFT * y.scale))),
        zeros=(a.zero_point, b.zero_point),
        sign=1 if op.op == "add" else -1,
        size=math.prod(y.shape),
        **walk,
        strides=strides,
        **bounds(op, y),
    )
    w.call("scaled_sum", structure, w.at(a), w.at(b), w.at(y))


def mean(w: CWriter, op: Op) -> None:
    """The division within the multiplier, as `stages.integer.profiles.tflm.mean` states it."""
    ratio = dividing(op, w.program)
    average(w, op, w.ratio(op) if ratio is None else w.fixed(*ratio))


def avg_pool2d(w: CWriter, op: Op) -> None:
    """Averages of the levels themselves."""
    (x,), y = w.values_of(op)
    fields = {"windows": pool(op, x, y), "low": op.attrs["act_min"], "high": op.attrs["act_max"]}
    w.call("average_levels", w.structure("average_levels", **fields), w.at(x), w.at(y))


def softmax(w: CWriter, op: Op) -> None:
    """Exponentials by tables over the 256 differences; `stages.integer.profiles.tflm.softmax` makes them."""
    (x, *_), y = w.values_of(op)
    exponentials, terms = exponential_tables(x.scale)
    structure = w.structure(
        "softmax_tflm",
        **along(x.shape, op.attrs["axis"]),
        exponentials=w.data("exponentials", exponentials.astype(np.int32)),
        terms=w.data("terms", terms.astype(np.int32)),
        low=op.attrs["act_min"],
        high=op.attrs["act_max"],
    )
    w.call("softmax_tflm", structure, w.at(x), w.at(y))
