from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.seed import derive_seed, deterministic, seed_everything


@given(st.integers(0, 2**32 - 1), st.text(), st.text())
def test_derived_seeds_are_in_range_repeatable_and_differ_by_name(seed, a, b):
    """A function of (seed, name) into 0 .. 2^32-1."""
    assert 0 <= derive_seed(seed, a) < 2**32
    assert (derive_seed(seed, a) == derive_seed(seed, b)) == (a == b)


def test_seeding_repeats_python_and_numpy():
    def draw():
        seed_everything(7)
        return random.random(), np.random.rand()  # noqa: NPY002

    assert draw() == draw()


def test_torch_is_seeded_where_loaded_and_not_loaded_otherwise():
    code = (
        "import sys; from pipeline.seed import seed_everything as s; s(3); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import torch

    seed_everything(3)
    first = torch.rand(4)
    seed_everything(3)
    assert torch.equal(torch.rand(4), first)


def test_deterministic_algorithms_are_asked_for_within_and_no_longer():
    import torch

    x = torch.zeros(3, requires_grad=True)
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
        assert x.sum().item() == 0
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
