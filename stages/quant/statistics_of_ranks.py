"""Statistics of observations that several processes divide between them: exactly those of one.

Each rank observes a run of successive batches, whole ones as a single process has them. Minima, maxima and
counts merge exactly in any order, and rows in that of the ranks, which is the batches' (`Statistics.merge`):
the result is the same to the bit, whatever calibrator reads it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load, save

from pipeline.ranks import Ranks
from stages.quant.statistics import Statistics


def own_batches(ids: NDArray[np.int64], batch_size: int, ranks: Ranks) -> NDArray[np.int64]:
    """The samples of this rank's batches, in order; none where there are fewer batches than ranks.

    Args:
        ids: all samples, in the order in which they are observed.
        batch_size: of the batches that one process would have; the last holds what is left.
        ranks: among whom the batches are divided, as evenly as whole ones can be.
    """
    count = math.ceil(len(ids) / max(batch_size, 1))
    first, behind = (count * number // ranks.size for number in (ranks.rank, ranks.rank + 1))
    return ids[first * batch_size : behind * batch_size]


def merged(own: Statistics, ranks: Ranks) -> Statistics:
    """On rank 0 the statistics of all ranks' observations; on the others their own.

    One point's at a time: memory holds those of all ranks for a single tensor.
    """
    if ranks.size == 1:
        return own
    found = [Statistics.from_tensors(load(each)) for each in ranks.gather(save(own.to_tensors()))]
    if not found:
        return own
    whole = found[0]
    for other in found[1:]:
        whole = whole.merge(other)
    return whole
