"""Values in memory or in files: the same to their users."""

import pytest
import torch

from stages.corrections.values import Values


@pytest.mark.parametrize("limit", [0, 100, 10**6])
def test_values_are_kept_whatever_the_limit(limit, tmp_path):
    values = Values(limit, tmp_path)
    tensors = {name: torch.randn(5, 4) for name in "abc"}
    for name, tensor in tensors.items():
        values.allocate(name, (5, 4))[:] = tensor
    assert all(torch.equal(values[name], tensor) for name, tensor in tensors.items())
    assert list(tmp_path.iterdir()) == []  # unlinked while mapped: a kill leaves nothing behind


def test_memory_is_used_up_to_the_limit_and_again_once_it_is_free(tmp_path):
    values = Values(100, tmp_path)  # bytes: one tensor of 20 numbers
    shared = [values.allocate(name, (20,)).untyped_storage().is_shared() for name in "ab"]
    values.drop("a")
    assert "a" not in values
    assert [*shared, values.allocate("c", (20,)).untyped_storage().is_shared()] == [False, True, False]
