"""An arithmetic coder of binary decisions, many at a time: asymmetric numeral systems in lanes (rANS).

Duda 2013, arXiv 1311.2540; interleaved lanes: Giesen 2014, arXiv 1402.3392. A step codes one decision in each
of the first n lanes, of probability ``p / 2^15`` that it is 1. A lane's state x, in ``[2^16, 2^32)``, takes
decision d of frequency f (p, or 2^15 − p) and start c (2^15 − p, or 0) by
``x ← ⌊x/f⌋ · 2^15 + c + x mod f``, after 16 bits of it were moved out where it would leave its range; the
decoder does the reverse, in the opposite order. So the encoder keeps all decisions, and codes the last first.

A state that starts at 2^16 wastes 16 bits. Here it starts at ``2^16 + payload``: 16 bits of other data, which
the decoder finds when it has decoded all else; and a state that ends below 2^32 is stored in as many bits as
it has. So a lane costs half a byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

BITS = 15
ONE = 1 << BITS
_LOW = 1 << 16
WORD = np.dtype("<u2")


class DecisionEncoder:
    """Keeps decisions with their probabilities, and codes them in the end."""

    def __init__(self) -> None:
        self._steps: list[tuple[Ints, NDArray[np.bool_]]] = []

    def code(self, p: Ints, decisions: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """Keep a step: probabilities of 1 in (0, 2^15), int64 (n,), and what was decided, (n,)."""
        if decisions is None:
            raise ValueError("decisions=None: an encoder must be told them")
        self._steps.append((p, decisions))
        return decisions

    @property
    def steps(self) -> int:
        """How many steps were kept."""
        return len(self._steps)

    def bits(self, first: int, last: int) -> float:
        """What the steps from `first` to before `last` take."""
        taken = 0.0
        for p, decisions in self._steps[first:last]:
            taken -= float(np.log2(np.where(decisions, p, ONE - p) / ONE).sum())
        return taken

    @property
    def lanes(self) -> int:
        """The most decisions of a step."""
        return max((len(p) for p, _ in self._steps), default=0)

    def finish(self, payload: bytes) -> bytes:
        """The coded steps.

        Args:
            payload: two bytes a lane, which lie in the states.

        Returns:
            The states, then words of two bytes.
        """
        x = _LOW + np.frombuffer(payload, WORD).astype(np.int64)
        if len(x) != self.lanes:
            raise ValueError(f"{len(payload)} bytes of payload: must be two for each of {self.lanes} lanes")
        words: list[NDArray[Any]] = []
        for p, decisions in reversed(self._steps):
            n = len(p)
            frequency = np.where(decisions, p, ONE - p)
            own = x[:n]
            full = own >= frequency << (32 - BITS)
            words.append((own[full] & 0xFFFF).astype(WORD))
            own = np.where(full, own >> 16, own)
            quotient, rest = np.divmod(own, frequency)
            x[:n] = (quotient << BITS) + rest + np.where(decisions, ONE - p, 0)
        return _pack_states(x) + b"".join(word.tobytes() for word in reversed(words))


class DecisionDecoder:
    """Decodes step by step. Damaged data decodes to something, never beyond its end; see `finish`.

    Attributes:
        bits: what the steps so far have taken, where `counts`.

    Args:
        data: what `DecisionEncoder.finish` gave.
        lanes: of the encoder.
        counts: whether to add up what steps take.
    """

    def __init__(self, data: bytes, lanes: int, *, counts: bool = False) -> None:
        self.bits = 0.0
        self._counts = counts
        self._x, taken = _unpack_states(data, lanes)
        if (len(data) - taken) % 2:
            raise ValueError(f"{len(data)} bytes for {lanes} lanes: the stream is cut off")
        self._words = np.frombuffer(data, WORD, offset=taken).astype(np.int64)
        self._next = 0

    def code(self, p: Ints, decisions: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Decide in as many lanes as there are probabilities of 1, int64 (n,)."""
        n = len(p)
        x = self._x[:n]
        if len(x) < n:
            raise ValueError(f"a step of {n} decisions: there are {len(x)} lanes; the stream is damaged")
        low = x & (ONE - 1)
        rest = ONE - p
        decided: NDArray[np.bool_] = low >= rest
        if self._counts:
            self.bits -= float(np.log2(np.where(decided, p, rest) / ONE).sum())
        x >>= BITS
        x *= np.where(decided, p, rest)
        x += low
        x -= rest * decided
        (empty,) = np.nonzero(x < _LOW)
        if count := len(empty):
            words = self._words[self._next : self._next + count]
            self._next += count
            if len(words) < count:
                raise ValueError("the stream is cut off")
            x[empty] = (x[empty] << 16) | words
        return decided

    def finish(self) -> bytes:
        """The payload. Raises ValueError where the stream does not end where the encoder began."""
        if self._next != len(self._words) or np.any(self._x >> 16 != 1):
            raise ValueError("the stream does not end where its decisions do: it is damaged")
        return (self._x & 0xFFFF).astype(WORD).tobytes()


def _pack_states(x: Ints) -> bytes:
    """States in ``[2^16, 2^32)``: how many bits each has above 16, four bits; these but the first; the 16."""
    high = x >> 16
    lengths = np.frexp(high.astype(np.float64))[1].astype(np.int64) - 1  # 0..15
    bits = (lengths[:, None] >> np.arange(4)) & 1
    below = (high[:, None] >> np.arange(15)) & 1
    stream = np.concatenate([bits.ravel(), below[np.arange(15) < lengths[:, None]]]).astype(np.uint8)
    return np.packbits(stream, bitorder="little").tobytes() + (x & 0xFFFF).astype(WORD).tobytes()


def _unpack_states(data: bytes, lanes: int) -> tuple[Ints, int]:
    """The states, and how many bytes they took."""
    if lanes < 0 or len(data) < (5 * lanes + 1) // 2:
        raise ValueError(f"{len(data)} bytes for {lanes} lanes: the stream is cut off")
    stream = np.unpackbits(np.frombuffer(data, np.uint8, min(len(data), 3 * lanes)), bitorder="little")
    lengths = stream[: 4 * lanes].reshape(lanes, 4).astype(np.int64) @ (1 << np.arange(4))
    used = 4 * lanes + int(lengths.sum())
    start = -(-used // 8)
    taken = start + 2 * lanes
    if len(data) < taken:
        raise ValueError(f"{len(data)} bytes for {lanes} lanes: the stream is cut off")
    below = np.zeros((lanes, 15), np.int64)
    below[np.arange(15) < lengths[:, None]] = stream[4 * lanes : used]
    high = (1 << lengths) + below @ (1 << np.arange(15))
    return (high << 16) + np.frombuffer(data, WORD, lanes, offset=start), taken
