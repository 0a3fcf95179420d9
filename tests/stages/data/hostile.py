"""What tests of hostile files share: files that say more than they hold, and a bound on memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from contextlib import contextmanager

from PIL import Image

MIB = 2**20


@contextmanager
def little_memory(most: int = 32 * MIB):
    """What Python takes at a time within the block is at most `most` bytes."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MIB:.0f} MiB were taken"


def zeros(count: int, head: bytes = b"") -> bytes:
    """`head` and `count` zeros as a .gz, made in little memory."""
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(head)]
    parts += [packer.compress(bytes(MIB)) for _ in range(count // MIB)]
    return b"".join([*parts, packer.flush()])


def png(width: int, height: int) -> bytes:
    """A gray PNG's header and the end, which is all that a bomb needs to be opened."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def picture(size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(buffer, "PNG")
    return buffer.getvalue()
