import logging
import tracemalloc

import numpy as np
import pytest

from stages.backends.onednn_kernels.verified import SPREAD, _random_levels, verified
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Integers, Value
from tests.stages.backends.test_onednn import convolutions
from tests.stages.integer.strategies import random_input


def test_a_kernel_that_is_wrong_at_some_batch_size_is_replaced_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    program = convolutions("float", residual=False)
    op = program.ops[0]
    reference = prepare_kernel(op, program)
    calls: list[int] = []

    def wrong_for_two(q: Integers) -> Integers:
        calls.append(len(q))
        y = reference(q).copy()
        y[-1:, 0, 0, 0] ^= 128 if len(q) == 2 else 1
        return y

    kernel = verified(wrong_for_two, op, program)
    two, three = (random_input(program, samples) for samples in (2, 3))
    with caplog.at_level(logging.WARNING):
        assert (kernel(two) == reference(two)).all()
        assert (kernel(two) == reference(two)).all()
        assert (kernel(three) == wrong_for_two(three)).all()
    assert calls == [2, 3, 3, 3]  # one check each; then the reference for two, the kernel for three
    assert caplog.messages == ["'a': oneDNN computes this layer wrongly; the reference kernel runs it"]
    assert kernel(np.zeros((0, 16, 24, 24), np.uint8)).shape == (0, 16, 24, 24)


def test_random_levels_spread_about_the_zero_point_and_take_one_byte_each() -> None:
    value = Value(name="x", shape=(64, 32, 32), scale=1.0, zero_point=120, quant_min=0, quant_max=254)
    tracemalloc.start()
    levels = _random_levels(value, 32, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 1.2 * levels.size
    assert (levels.shape, levels.dtype) == ((32, 64, 32, 32), np.uint8)
    assert levels.max() <= 254
    assert abs(levels.mean() - 120) < SPREAD / 4
    assert 0.8 * SPREAD < levels.std() < 1.2 * SPREAD
    assert (levels[0] != levels[1]).mean() > 0.9
