"""Tables of a function of one value, as CAST to int32, ADD of constants and GATHER from a row of entries.

What the exporter writes of `table` and `channel_table`: any function of 8-bit levels has this form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.importers.tflite_file.contents import TfliteOperator
from stages.importers.tflite_file.reader import CHANNELS_FIRST, TfliteReader


def cast(reader: TfliteReader, op: TfliteOperator) -> None:
    """CAST of levels to int32: places to look up."""
    y = reader.tensor(op, 0, output=True)
    if y.dtype != "int32":
        raise ValueError(f"to {y.dtype}: must be int32, for a table that GATHER reads")
    x = reader.as_it_is(op, 0)
    reader.places[y.index] = (x, np.zeros((1,) * len(x.shape), np.int64))


def is_place(reader: TfliteReader, op: TfliteOperator) -> bool:
    """Whether an operator reads places to look up."""
    return any(number in reader.places for number in op.inputs)


def moved_places(reader: TfliteReader, op: TfliteOperator) -> None:
    """ADD of a constant to places."""
    (place,) = [place for place in (0, 1) if reader.tensor(op, place).index in reader.places]
    x, offset = reader.places[reader.tensor(op, place).index]
    constant, y = reader.constant(op, 1 - place), reader.tensor(op, 0, output=True)
    if op.kind != "ADD" or constant.dtype != np.int32 or op.option(0, "b", 0) or y.dtype != "int32":
        raise ValueError("places to look up are moved by ADD of an int32 constant alone, without activation")
    rank = len(x.shape) + 1
    aligned = constant.astype(np.int64).reshape([1] * (rank - constant.ndim) + list(constant.shape))
    if aligned.ndim != rank or aligned.shape[0] != 1:
        raise ValueError(f"a constant of shape {constant.shape} must broadcast to samples of {x.shape}")
    if aligned.size > 1 and x.name in reader.order:
        x = reader.in_file_order(x)
    own = aligned[0].transpose(CHANNELS_FIRST) if rank == 4 else aligned[0]
    if any(size not in (1, n) for size, n in zip(own.shape, x.shape, strict=True)):
        raise ValueError(f"a constant of shape {constant.shape} must broadcast to samples of {x.shape}")
    reader.places[y.index] = (x, offset + own)


def look_up(reader: TfliteReader, op: TfliteOperator) -> None:
    """GATHER at places: a table of all 256 levels, one for each index along a dimension."""
    entries, tensor = reader.constant(op, 0), reader.tensor(op, 0)
    x, offset = reader.places[reader.tensor(op, 1).index]
    if entries.ndim != 1 or op.option(0, "i", 0) or op.option(1, "i", 0):
        raise ValueError(f"entries of shape {entries.shape}: must be in a row")
    y = reader.value(reader.tensor(op, 0, output=True))
    if tensor.dtype != np.dtype(y.dtype).name or tensor.scale.tolist() != [np.float32(y.scale)]:
        raise ValueError("entries and output must share type and scale")
    if tensor.zero_point.tolist() != [y.zero_point]:
        raise ValueError("entries and output must share their zero point")
    long = [axis for axis, size in enumerate(offset.shape) if size > 1]
    if len(long) > 1:
        raise ValueError(f"places that vary along {len(long)} dimensions: must be one")
    levels = np.arange(x.quant_min, x.quant_max + 1)
    places: NDArray[Any] = offset.reshape(-1, 1) + levels
    if places.min() < 0 or places.max() >= len(entries):
        raise ValueError(f"looks up {places.min()}..{places.max()} of {len(entries)} entries")
    rows = entries[places]
    if long:
        reader.append("channel_table", [x], y, {"axis": long[0]}, {"table": rows})
        return
    if x.name in reader.order:
        reader.order[y.name] = reader.order[x.name]
    reader.append("table", [x], y, None, {"table": rows[0]})
