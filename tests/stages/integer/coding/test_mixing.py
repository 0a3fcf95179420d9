"""Tables that decide what a file means must be the same everywhere."""

import math

import numpy as np

from stages.integer.coding.lanes import ONE
from stages.integer.coding.mixing import LIMIT, UNIT, Mixer, squash_table, stretch_table


def test_no_entry_hangs_on_the_last_bit_of_a_logarithm():
    """Rounding is decided by more than any library's error, so all machines have the same tables."""
    odds = [UNIT * math.log(p / (ONE - p)) for p in range(1, ONE)]
    shares = [ONE / (1.0 + math.exp(-step / UNIT)) for step in range(-LIMIT, LIMIT + 1)]
    for values in (odds, shares):
        assert min(abs(value % 1.0 - 0.5) for value in values) > 1e-7


def test_squash_undoes_stretch():
    p = np.arange(40, ONE - 40)
    back = squash_table()[stretch_table()[p] + LIMIT]
    assert (np.abs(back - p) <= 1 + p * (ONE - p) // ONE // UNIT).all()


def test_a_mixer_learns_which_estimate_to_trust():
    rng = np.random.default_rng(0)
    mixer, stretch = Mixer((0.5, 0.5), 16), stretch_table()
    for _ in range(300):
        p = rng.integers(1000, ONE - 1000, 32)
        noise = rng.integers(1000, ONE - 1000, 32)
        mixed = mixer.mix(np.stack([stretch[p], stretch[noise]]))
        mixer.learn(rng.random(32) < p / ONE)
    assert np.abs(mixed - p).mean() < 0.3 * np.abs(noise - p).mean()
