"""The frame of a coded file: parts whose lengths and checksum are looked at before anything is made of them.

    ``magic "QPC1" | crc32 of all that follows | coder u8 | lanes u16 | lengths of 4 parts u32 | parts``

All numbers are little-endian. The parts: fields (JSON, deflated), side (what each weight needs before it is
decoded, deflated), stream (the weights), rest (all other arrays, deflated; its first ``2 · lanes`` bytes lie
in the stream's lanes). A deflated part begins with its length when inflated, u32.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

MAGIC = b"QPC1"
CODERS = ("huffman", "range")
_HEADER = struct.Struct("<BHIIII")
_LENGTH = struct.Struct("<I")

MOST = 2**30
"""Bytes of an inflated part."""

RATIO = 1032
"""What deflate makes of a byte at most."""


@dataclass(frozen=True, kw_only=True)
class CodedParts:
    """What a coded file holds.

    Args:
        coder: one of `CODERS`.
        lanes: of the stream; 0 for Huffman codes.
        fields: inflated.
        side: inflated.
        stream: the weights.
        rest: deflated, without what lies in the lanes.
    """

    coder: str
    lanes: int
    fields: bytes
    side: bytes
    stream: bytes
    rest: bytes


def pack(parts: CodedParts) -> bytes:
    """The file."""
    stored = (deflate(parts.fields), deflate(parts.side), parts.stream, parts.rest)
    header = _HEADER.pack(CODERS.index(parts.coder), parts.lanes, *map(len, stored))
    body = header + b"".join(stored)
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(data: bytes) -> CodedParts:
    """The parts. Raises ValueError where the file is none of ours, cut off or damaged."""
    if data[:4] != MAGIC:
        raise ValueError("is no coded program (its first bytes are not QPC1)")
    if len(data) < 8 + _HEADER.size:
        raise ValueError(f"{len(data)} bytes: the file is cut off")
    coder, lanes, *lengths = _HEADER.unpack_from(data, 8)
    there = len(data) - 8 - _HEADER.size
    if sum(lengths) != there:
        raise ValueError(f"{there} bytes in place of {sum(lengths)}: the file is cut off, or damaged")
    if zlib.crc32(memoryview(data)[8:]) != int.from_bytes(data[4:8], "little"):
        raise ValueError("its checksum is another: the file is damaged")
    if coder >= len(CODERS):
        raise ValueError(f"coder {coder}: must be below {len(CODERS)}")
    stored = []
    start = 8 + _HEADER.size
    for length in lengths:
        stored.append(data[start : start + length])
        start += length
    fields, side, stream, rest = stored
    return CodedParts(
        coder=CODERS[coder],
        lanes=lanes,
        fields=inflate(fields),
        side=inflate(side),
        stream=stream,
        rest=rest,
    )


def deflate(data: bytes) -> bytes:
    """A part as it is stored."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    return _LENGTH.pack(len(data)) + compressor.compress(data) + compressor.flush()


def inflate(stored: bytes, *, padded: bool = False) -> bytes:
    """A part. Raises ValueError where it is not as long as it says, before memory is taken for it.

    Args:
        stored: by `deflate`.
        padded: whether zeros may follow.
    """
    if len(stored) < _LENGTH.size:
        raise ValueError("a part without its length: the file is damaged")
    (length,) = _LENGTH.unpack_from(stored)
    if length > min(MOST, RATIO * len(stored)):
        raise ValueError(f"{length} bytes deflated to {len(stored)}: the file is damaged")
    inflater = zlib.decompressobj(-15)
    try:
        data = inflater.decompress(stored[_LENGTH.size :], length + 1)
    except zlib.error as error:
        raise ValueError(f"a part does not inflate ({error}): the file is damaged") from error
    if len(data) != length or not inflater.eof or inflater.unused_data.strip(b"\0" * padded):
        raise ValueError(f"a part of {length} bytes inflates to others: the file is damaged")
    return data
