"""What every test process starts with."""

import os

import pytest

# Workers share the cores, and runs started by tests with them; sums of floats in one order give one result.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which is later


@pytest.fixture(scope="module")
def one_thread():
    """For tests of equality to the bit, whatever the environment says."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
