"""The int8 limit: products of levels and weights in registers alone, as fast as a CPU does them.

A convolution that loads its operands, and requantizes, stays below. The engine measures it itself, in the
instruction set that it runs in: a peer's may have other products, which are not exact.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.library import Library, find_library
from stages.measuring.timing import Clock, timer

ROUNDS = 100_000
"""How often a tile's products are taken: a millisecond or less with VNNI."""


def int8_limit(threads: int, isa: str | None = None, runs: int = 50, clock: Clock = "wall") -> float | None:
    """Operations a second, two a product, of all threads together: the best of many runs.

    Args:
        threads: that compute at once.
        isa: the instruction set, as in ``backend.isa``; None for the fastest of this CPU.
        runs: how many.
        clock: cpu for a machine that is busy otherwise, on one thread.

    Returns:
        None where there is no engine.

    Raises:
        PipelineError: this CPU lacks the instruction set.
    """
    library = find_library(isa)
    if isinstance(library, str):
        return None
    work = Products(library).repeat
    with ThreadPoolExecutor(threads) as pool:
        step = partial(work, ROUNDS) if threads == 1 else lambda: list(pool.map(work, [ROUNDS] * threads))
        seconds = timer(step, clock)
        best = min(seconds(1) for _ in range(runs)) if runs else math.inf
    done = work(ROUNDS)
    return 2 * threads * done / best


class Products:
    """Products on drawn operands, in the engine's registers.

    Args:
        library: the engine.
        plain: products of four where pairs of them are faster.
        seed: of the operands: levels of 7 bits, and weights of 6, so that pairs fit int16.
    """

    def __init__(self, library: Library, *, plain: bool = False, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.start = generator.integers(-1000, 1000, 64, dtype=np.int32)
        self.levels = generator.integers(0, 128, 8, dtype=np.uint8)
        self.weights = generator.integers(-32, 33, 256, dtype=np.int8)
        self._library, self._plain = library, plain
        self._operands = tuple(a.ctypes.data for a in (self.start, self.levels, self.weights))

    def repeat(self, rounds: int) -> int:
        """How many products that many rounds of a tile are; does them."""
        return self._run(rounds, np.zeros(1, np.int32))

    def total(self, rounds: int) -> int:
        """The sum of `start` and all products, int32 that wraps."""
        total = np.zeros(1, np.int32)
        self._run(rounds, total)
        return int(total[0])

    def _run(self, rounds: int, total: NDArray[np.int32]) -> int:
        functions = self._library.functions
        return int(functions.products(rounds, int(self._plain), *self._operands, total.ctypes.data))
