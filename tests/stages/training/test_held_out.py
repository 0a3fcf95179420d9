"""Samples that are held out, and early stopping by them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.errors import PipelineError
from stages.data.base import Split
from stages.data.digits import Digits
from stages.tasks.classification import Classification
from stages.training.checkpoint import Epoch
from stages.training.fit import FloatTraining, fit
from stages.training.held_out import Kept, best_epoch, hold_out, quality

RECIPE = FloatTraining(epochs=6, batch_size=64, held_out=0.2)
RESTLESS = FloatTraining(
    epochs=30, held_out=0.2, patience=2, learning_rate=0.5, schedule="constant", warmup=0.0, clip_grad=None
)
"""At this rate nothing gets better for long."""


def split_of(size):
    return Split(images=np.zeros((size, 1, 1, 1), np.uint8), labels=np.zeros(size, np.int64))


@given(size=st.integers(1, 200), share=st.floats(0.0, 0.99), seed=st.integers(0, 5))
def test_every_sample_is_either_trained_on_or_held_out(size, share, seed):
    kept, held = hold_out(split_of(size), share, seed)
    assert sorted([*kept, *held]) == list(range(size))
    assert len(held) == round(share * size)


def test_the_draw_depends_on_the_seed_alone():
    first, again, other = (hold_out(split_of(100), 0.3, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@given(values=st.lists(st.sampled_from([0.1, 0.5, 0.9]), max_size=8), first=st.integers(1, 10))
def test_the_best_epoch_is_the_earliest_of_the_highest(values, first):
    number = best_epoch(values, first)
    usable = values[first - 1 :]
    assert number == (first + usable.index(max(usable)) if usable else 0)


@pytest.mark.parametrize("in_file", [True, False])
def test_kept_weights_come_back(tmp_path, in_file):
    module = nn.Linear(2, 2)
    kept = Kept(tmp_path / "training.safetensors" if in_file else None)
    kept.keep(module)
    expected = module.weight.detach().clone()
    nn.init.zeros_(module.weight)
    kept.restore(module)
    assert torch.equal(module.weight, expected)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def train(recipe, checkpoint=None, stop_after=None):
    """History and weights; KeyboardInterrupt after `stop_after` epochs."""
    module, history = linear(), []

    def record(number, epoch):
        history.append(epoch)
        if number == stop_after:
            raise KeyboardInterrupt

    fit(module, Digits(), recipe, seed=0, checkpoint=checkpoint, on_epoch=record)
    return history, module.state_dict()


def test_held_out_accuracy_is_that_of_the_weights_after_the_epoch():
    history, weights = train(replace(RECIPE, epochs=1))
    module = linear()
    module.load_state_dict(weights)
    data = Digits()
    _, held = hold_out(data.train(), RECIPE.held_out, 0)
    assert history[0].held_out == quality(module, data.train(), data, held, Classification())
    assert 0.3 < history[0].held_out < 1.0
    steps = math.ceil(0.8 * len(data.train()) / 64)
    assert history[0].learning_rate == replace(RECIPE, epochs=1).rate(steps - 1, steps)


def test_nothing_held_out_is_not_a_number():
    history, _ = train(replace(RECIPE, epochs=1, held_out=0.0))
    assert math.isnan(history[0].held_out)
    assert Epoch(1.0, 0.5, 2.0).held_out != 0.0


def test_training_stops_and_goes_back_to_the_best_epoch():
    history, weights = train(RESTLESS)
    accuracies = [epoch.held_out for epoch in history]
    best = best_epoch(accuracies, 1)
    assert len(history) == best + 2 < 30
    shorter, expected = train(replace(RESTLESS, epochs=best, patience=None))
    assert [epoch.held_out for epoch in shorter] == accuracies[:best]
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("stop_after", [1, 3])
def test_early_stopping_resumes_after_a_kill(tmp_path, stop_after):
    expected, weights = train(RESTLESS)
    with pytest.raises(KeyboardInterrupt):
        train(RESTLESS, tmp_path / "training.safetensors", stop_after)
    resumed, again = train(RESTLESS, tmp_path / "training.safetensors")
    assert [epoch.held_out for epoch in resumed] == [epoch.held_out for epoch in expected]
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_weights_of_the_best_epoch_that_were_damaged_are_told_and_trained_anew(tmp_path):
    file = tmp_path / "training.safetensors"
    _, weights = train(RESTLESS, file)
    best = tmp_path / "training.best.safetensors"
    content = bytearray(best.read_bytes())
    content[-1] ^= 1
    best.write_bytes(content)
    with pytest.raises(
        PipelineError, match=r"best epoch's weights are damaged .*Remedy: the same command again"
    ):
        train(RESTLESS, file)
    _, again = train(RESTLESS, file)
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_patience_without_held_out_samples_is_refused():
    with pytest.raises(ValueError, match=r"patience=3: .*held_out=0 must be a share above 0, as 0\.1"):
        FloatTraining(patience=3)
