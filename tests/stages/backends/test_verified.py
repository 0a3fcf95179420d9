import logging

import numpy as np
import pytest

from stages.backends.onednn_kernels.verified import verified
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Integers
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
