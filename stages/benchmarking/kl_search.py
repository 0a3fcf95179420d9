"""The search for the threshold of least KL divergence alone: ours, and onnxruntime's, on like histograms."""

from __future__ import annotations

import time

import numpy as np
import torch

from stages.measuring.timing import Step
from stages.quant.calibrators.kl import Kl
from stages.quant.granularity.per_tensor import PerTensor
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.statistics import Statistics

BINS = 2048
SAMPLES = 1_000_000


def kl_search_seconds(runs: int = 5) -> dict[str, float]:
    """Median seconds of a search: ``kl_search/ours/seconds``, and onnxruntime's where it is installed.

    Both get a million values of a standard normal distribution. Ours has 1024 to 2048 bins of magnitudes and
    tries all of them by default, or every fourth; onnxruntime has 2048 bins of values.
    """
    values = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(0))
    statistics = Statistics()
    statistics.update(PerTensor().to_observations(values))
    grid = Symmetric(bits=8, signed=True).qparams
    figures = {
        "kl_search/ours/seconds": _median(lambda: Kl().range(statistics, grid), runs),
        "kl_search/ours_every_fourth_bin/seconds": _median(
            lambda: Kl(stride=4).range(statistics, grid), runs
        ),
    }
    try:
        from stages.benchmarking.onnxruntime_peer import entropy_threshold

        counts, edges = np.histogram(values.numpy(), bins=BINS)
        histogram = (counts, edges, values.min().numpy(), values.max().numpy())
        figures["kl_search/onnxruntime/seconds"] = _median(lambda: entropy_threshold(histogram), runs)
    except ImportError:
        pass
    return figures


def _median(step: Step, runs: int) -> float:
    step()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
