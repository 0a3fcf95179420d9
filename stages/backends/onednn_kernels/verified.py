"""Trust a layer's fast kernel only where it was seen to agree with the reference.

oneDNN has geometries that it computes wrongly (3.12: one input channel a group, one column of output and a
stride, where it reads into the next row), some only for certain batch sizes. So the first batch of each size
is preceded by one of random levels, of which the reference computes two samples.
"""

from __future__ import annotations

import logging

import numpy as np

from stages.integer.kernel import Kernel, prepare_kernel
from stages.integer.program import Integers, Op, Program, Value

log = logging.getLogger(__name__)

SPREAD = 30
"""Standard deviation of the random levels around the zero point: where sums saturate, errors would hide."""


def verified(fast: Kernel, op: Op, program: Program) -> Kernel:
    """`fast`, but for batch sizes at which it is off by more than one level: there the reference kernel."""
    chosen: dict[int, Kernel] = {}

    def run(*inputs: Integers) -> Integers:
        samples = len(inputs[0])
        if samples not in chosen:
            reference = prepare_kernel(op, program)
            exact = _agree(fast, reference, op, program, samples)
            chosen[samples] = fast if exact else reference
            if not exact:
                log.warning(
                    "'%s': oneDNN computes this layer wrongly; the reference kernel runs it", op.output
                )
        return chosen[samples](*inputs)

    return run


def _agree(fast: Kernel, reference: Kernel, op: Op, program: Program, samples: int) -> bool:
    inputs = [_random_levels(program.values[name], samples, seed=i) for i, name in enumerate(op.inputs)]
    compared = [0, samples - 1] if samples else []
    expected = reference(*(q[compared] for q in inputs))
    actual = fast(*inputs)[compared]
    return int(np.abs(actual.astype(np.int16) - expected).max(initial=0)) <= 1


def _random_levels(value: Value, samples: int, seed: int) -> Integers:
    """Levels (samples, *shape) about the zero point, images channels-last.

    Random bytes pick among 256 levels, themselves drawn, sample by sample: floats of a whole batch would take
    many times the memory of running it.
    """
    rng = np.random.default_rng(seed)
    rows_last = (*value.shape[1:], value.shape[0]) if len(value.shape) == 3 else value.shape
    drawn = np.rint(rng.normal(value.zero_point, SPREAD, 256))
    table = np.clip(drawn, value.quant_min, value.quant_max).astype(value.dtype)
    levels = np.empty((samples, *rows_last), value.dtype)
    for sample in levels:
        sample[...] = table[rng.integers(0, 256, rows_last, dtype=np.uint8)]
    return levels.transpose(0, 3, 1, 2) if levels.ndim == 4 else levels
