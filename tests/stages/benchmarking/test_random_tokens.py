from __future__ import annotations

import numpy as np
import pytest

from stages.benchmarking.random_tokens import RandomTokens
from stages.data.base import Data
from stages.data.batches import input_dtype


def test_tokens_are_within_the_vocabulary_and_the_same_every_time():
    data = RandomTokens(length=5, vocabulary=7, samples=40)
    assert isinstance(data, Data)
    assert data.shape == (5,)
    assert str(input_dtype(data)) == "torch.int64"
    tokens = data.train().images
    assert tokens.shape == (40, 5)
    assert set(np.unique(tokens)) == set(range(7))
    assert np.array_equal(tokens, data.train().images)
    assert not np.array_equal(tokens, data.test().images)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="vocabulary=0: must be at least 1"):
        RandomTokens(vocabulary=0)
