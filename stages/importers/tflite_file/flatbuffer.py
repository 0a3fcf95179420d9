"""FlatBuffers, read with every offset, count and size checked against the file's length.

A *table* begins with the distance back to its vtable: two 16-bit sizes, then a 16-bit offset a field, 0 where
the field has its default. A reference is a 32-bit distance forward; a vector begins with its count. Source:
"FlatBuffer Internals", google.github.io/flatbuffers. The library for Python checks none of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


class DamagedError(ValueError):
    """A file that ends, or points, where it cannot."""


@dataclass(frozen=True)
class FlatTable:
    """A table of the file.

    Args:
        data: the whole file.
        position: of the table in it.
        taken: bytes of vectors read so far: a small file can name one large vector many times over.
    """

    data: bytes
    position: int
    taken: list[int] = field(default_factory=lambda: [0])

    @staticmethod
    def root(data: bytes, identifier: bytes) -> FlatTable:
        """The file's root table. Raises `DamagedError` where the file is not of that kind."""
        if len(data) < 8 or data[4:8] != identifier:
            raise DamagedError(f"is no {identifier.decode()} file: its bytes 4 to 8 are {data[4:8]!r}")
        return FlatTable(data, _follow(data, 0))

    def scalar(self, slot: int, code: str, default: Any) -> Any:
        """A number by `struct`'s code for its type."""
        at = self._field(slot)
        return default if at is None else _unpack(self.data, at, code)

    def table(self, slot: int) -> FlatTable | None:
        """The table that a field refers to."""
        at = self._field(slot)
        return None if at is None else FlatTable(self.data, _follow(self.data, at), self.taken)

    def text(self, slot: int) -> str:
        """A string; what is not UTF-8 is replaced."""
        return self.vector(slot, np.uint8).tobytes().decode(errors="replace")

    def vector(self, slot: int, dtype: Any) -> NDArray[Any]:
        """A vector of numbers; empty where the field is not there."""
        kind = np.dtype(dtype).newbyteorder("<")
        at = self._field(slot)
        if at is None:
            return np.empty(0, kind)
        start, count = self._counted(at, kind.itemsize)
        return np.frombuffer(self.data, kind, count, start)

    def tables(self, slot: int) -> list[FlatTable]:
        """A vector of tables."""
        at = self._field(slot)
        if at is None:
            return []
        start, count = self._counted(at, 4)
        return [FlatTable(self.data, _follow(self.data, start + 4 * i), self.taken) for i in range(count)]

    def _counted(self, at: int, size: int) -> tuple[int, int]:
        """Start and count of a vector whose elements all lie in the file."""
        start = _follow(self.data, at)
        count = _unpack(self.data, start, "I")
        if count * size > len(self.data) - start - 4:
            raise DamagedError(f"is damaged: {count} elements of {size} bytes from byte {start + 4} on")
        if size > 1:  # bytes are contents of tensors, which are shared
            self.taken[0] += count * size
        if self.taken[0] > 16 * len(self.data):
            raise DamagedError("is damaged: names the same vectors over and over")
        return start + 4, count

    def _field(self, slot: int) -> int | None:
        vtable = self.position - _unpack(self.data, self.position, "i")
        size = _unpack(self.data, vtable, "H")
        if 4 + 2 * slot + 2 > size:
            return None
        offset = _unpack(self.data, vtable + 4 + 2 * slot, "H")
        return None if offset == 0 else self.position + offset


def _follow(data: bytes, at: int) -> int:
    """Where the reference at `at` leads."""
    target = at + _unpack(data, at, "I")
    if not 0 <= target <= len(data) - 4:
        raise DamagedError(f"is damaged: byte {at} refers to byte {target} of {len(data)}")
    return int(target)


def _unpack(data: bytes, at: int, code: str) -> Any:
    form = struct.Struct("<" + code)
    if not 0 <= at <= len(data) - form.size:
        raise DamagedError(f"is damaged: reads at byte {at} of {len(data)}")
    return form.unpack_from(data, at)[0]
