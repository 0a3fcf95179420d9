"""Canonical Huffman codes (Huffman 1952), decoded without a loop over bits.

Codes of equal length are consecutive numbers, in the order of their symbols, shorter ones first; so lengths
are all that is stored. The first bit of a code is its highest. Decoding looks up, at every bit of the stream,
which code would begin there, and then follows from code to code.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from stages.integer.coding.lanes import Ints

LONGEST = 15
"""Bits of a code, at most: what four bits hold."""


def code_lengths(counts: Ints) -> Ints:
    """The bits of each symbol's code, int64 (k,): 0 for one that never occurs, 1 where there is but one.

    Counts are halved, up to 1, until no code is longer than 15 bits.
    """
    counts = np.asarray(counts, np.int64)
    while True:
        lengths = _lengths(counts)
        if lengths.max(initial=0) <= LONGEST:
            return lengths
        counts = np.where(counts > 0, (counts + 1) // 2, 0)


def _lengths(counts: Ints) -> Ints:
    lengths = np.zeros(len(counts), np.int64)
    (used,) = np.nonzero(counts)
    heap = [(int(counts[s]), int(s), [int(s)]) for s in used]
    if len(heap) == 1:
        lengths[used] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, first, left), (b, second, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, min(first, second), left + right))
    return lengths


def canonical_codes(lengths: Ints) -> Ints:
    """The code of each symbol as a number of its length's bits, int64 (k,).

    Raises:
        ValueError: no code has such lengths.
    """
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > LONGEST:
        raise ValueError(f"code lengths: must be 0..{LONGEST}")
    share = int((1 << (LONGEST - lengths[lengths > 0])).sum())
    if share > 1 << LONGEST:
        raise ValueError("code lengths: no code has them (Kraft's sum is above 1); the stream is damaged")
    codes = np.zeros(len(lengths), np.int64)
    code = 0
    for length in range(1, LONGEST + 1):
        (own,) = np.nonzero(lengths == length)
        codes[own] = code + np.arange(len(own))
        code = (code + len(own)) << 1
    return codes


def encode_symbols(symbols: Ints, lengths: Ints) -> NDArray[np.uint8]:
    """Symbols, (n,), as bits, uint8 (bits,)."""
    codes, own = canonical_codes(lengths)[symbols], lengths[symbols]
    bits = (codes[:, None] >> (own[:, None] - 1 - np.arange(LONGEST)).clip(0)) & 1
    stream: NDArray[np.uint8] = bits[np.arange(LONGEST) < own[:, None]].astype(np.uint8)
    return stream


def decode_symbols(bits: NDArray[np.uint8], lengths: Ints, count: int) -> tuple[Ints, int]:
    """`count` symbols from the beginning of a stream, int64 (count,), and how many bits they took.

    Raises:
        ValueError: the stream ends before, or holds what is no code.
    """
    if count > len(bits):
        raise ValueError(f"{count} symbols in {len(bits)} bits: the stream is cut off")
    if not count:
        return np.zeros(0, np.int64), 0
    codes = canonical_codes(lengths)
    longest = int(lengths.max(initial=0))
    table = np.full((2, 1 << longest), -1, np.int64)  # symbol and length, by the next bits
    for symbol in np.flatnonzero(lengths):
        free = longest - int(lengths[symbol])
        here = slice(int(codes[symbol]) << free, (int(codes[symbol]) + 1) << free)
        table[0, here], table[1, here] = symbol, lengths[symbol]
    padded = np.concatenate([bits, np.zeros(longest, np.uint8)])
    windows = np.zeros(len(bits), np.int64)
    for bit in range(longest):
        windows = (windows << 1) | padded[bit : bit + len(bits)]
    after = (np.arange(len(bits)) + table[1][windows]).tolist()
    places, place, end = [], 0, len(bits)
    for _ in range(count):
        if place >= end:
            raise ValueError("the stream is cut off")
        places.append(place)
        follows = after[place]
        if follows <= place:
            raise ValueError("bits that are no code: the stream is damaged")
        place = follows
    if place > end:
        raise ValueError("the stream is cut off")
    found: Ints = table[0][windows[places]]
    return found, place
