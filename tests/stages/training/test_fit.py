from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from stages.data.base import Split
from stages.data.batches import batches
from stages.data.digits import Digits
from stages.models.mobilenet import MobileNetV2
from stages.models.mobilenet_digits import MobileNetDigits
from stages.training.fit import FloatTraining, fit

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True, kw_only=True)
class FewDigits:
    """The first training digits."""

    name: ClassVar[str] = "few"
    num_classes: ClassVar[int] = 10
    shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    mean: tuple[float, ...] = (0.3,)
    std: tuple[float, ...] = (0.4,)
    count: int = 97

    def train(self) -> Split:
        split = Digits().train()
        return Split(images=split.images[: self.count], labels=split.labels[: self.count])

    def test(self) -> Split:
        return Digits().test()

    def check(self) -> None:
        """Nothing to check."""

    def fingerprint(self) -> str:
        return f"few {self.count}"


RECIPE = FloatTraining(
    epochs=3, batch_size=32
)  # 97 = 3 batches of 32 and one sample, which BatchNorm cannot take


class KilledError(Exception):
    """What ends a training from outside."""


def killed_after(steps: int):
    """A progress bar that ends the process, as it were, after so many steps."""

    @contextmanager
    def progress(description: str, total: int | None = None):
        left = steps

        def advance(n: int = 1, **info: object) -> None:
            nonlocal left
            left -= n
            if left < 0:
                raise KilledError

        yield advance

    return progress


def trained(recipe=RECIPE, seed=0, model=None, data=None, initial=0, **keywords) -> dict[str, torch.Tensor]:
    torch.manual_seed(initial)
    module = (model or MobileNetDigits()).build((1, 8, 8), 10)
    fit(module, data or FewDigits(), recipe, seed=seed, **keywords)
    assert not module.training
    return module.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_seed_alone_decides():
    first = trained()
    torch.rand(17)  # the global generator takes no part
    assert equal(first, trained())
    assert not equal(first, trained(seed=1))


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    module = MobileNetDigits().build((1, 8, 8), 10)
    torch.manual_seed(5)
    fit(module, FewDigits(), RECIPE, seed=0)
    assert torch.equal(torch.rand(3), expected)


RECIPES = {
    "sgd": replace(RECIPE, weight_decay=0.01),
    "adamw": replace(RECIPE, optimizer="adamw", learning_rate=0.003, augment="crop_flip"),
    "plain": replace(RECIPE, momentum=0.0, schedule="constant", clip_grad=None, label_smoothing=0.1),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("steps", [2, 5, 8])
def test_a_killed_training_resumes_to_the_same_bits(tmp_path, name, steps):
    """KilledError in the first, second and third epoch."""
    recipe, file = RECIPES[name], tmp_path / "training.safetensors"
    whole, seen = [], []
    expected = trained(recipe, on_epoch=lambda number, epoch: whole.append((number, *epoch[:2])))
    with pytest.raises(KilledError):
        trained(recipe, checkpoint=file, progress=killed_after(steps))
    assert file.is_file() == (steps > 3)
    resumed = trained(
        recipe, checkpoint=file, on_epoch=lambda number, epoch: seen.append((number, *epoch[:2]))
    )
    assert equal(resumed, expected)
    assert seen == whole and len(whole) == recipe.epochs


def test_dropout_resumes_too(tmp_path):
    model, file = MobileNetV2(width=0.1, stem_stride=1, first_stride=1), tmp_path / "training.safetensors"
    recipe = replace(RECIPE, epochs=2)
    expected = trained(recipe, model=model)
    with pytest.raises(KilledError):
        trained(recipe, model=model, checkpoint=file, progress=killed_after(4))
    assert equal(trained(recipe, model=model, checkpoint=file), expected)


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"initial": 1}, {"recipe": replace(RECIPE, momentum=0.5)}, {"data": FewDigits(count=64)}],
)
def test_a_checkpoint_of_another_training_is_not_used(tmp_path, caplog, other):
    file = tmp_path / "training.safetensors"
    trained(checkpoint=file)
    assert equal(trained(**other, checkpoint=file), trained(**other))
    assert "belongs to another training; starting anew" in caplog.text


def test_a_damaged_checkpoint_is_not_used(tmp_path, caplog):
    file = tmp_path / "training.safetensors"
    expected = trained(checkpoint=file)
    file.write_bytes(file.read_bytes()[:-100])
    assert equal(trained(checkpoint=file), expected)
    assert "is not readable" in caplog.text


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_checkpoint_in_which_one_byte_changed_is_not_used(tmp_path, caplog, place):
    """It would be trained on, to other weights."""
    file = tmp_path / "training.safetensors"
    expected = trained()
    with pytest.raises(KilledError):
        trained(checkpoint=file, progress=killed_after(5))
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)
    assert equal(trained(checkpoint=file), expected)
    assert "starting anew" in caplog.text


def test_a_resumed_training_says_after_which_epoch(tmp_path):
    file, said = tmp_path / "training.safetensors", []
    with pytest.raises(KilledError):
        trained(checkpoint=file, progress=killed_after(5), on_resume=said.append)
    assert said == []
    trained(checkpoint=file, on_resume=said.append)
    assert said == ["after epoch 1 of 3"]


def test_a_finished_training_is_not_repeated(tmp_path):
    file = tmp_path / "training.safetensors"
    expected = trained(checkpoint=file)
    epochs: list[int] = []
    again = trained(checkpoint=file, on_epoch=lambda number, epoch: epochs.append(number))
    assert equal(again, expected) and epochs == [1, 2, 3]


def test_zero_epochs_change_nothing():
    torch.manual_seed(0)
    untouched = MobileNetDigits().build((1, 8, 8), 10).state_dict()
    assert equal(trained(replace(RECIPE, epochs=0)), untouched)


def test_a_diverging_training_is_refused_with_the_remedy():
    recipe = replace(RECIPE, learning_rate=1e30, clip_grad=None, warmup=0.0)
    with pytest.raises(
        PipelineError,
        match=r"became (nan|inf) in epoch 1 of 3.\nRemedy: lower learning_rate=1e\+30, or limit",
    ):
        trained(recipe)


@given(st.integers(1, 500), st.floats(0, 0.9), st.sampled_from(["cosine", "constant"]))
def test_the_rate_rises_to_the_peak_and_falls_from_it(steps, warmup, schedule):
    recipe = FloatTraining(warmup=warmup, schedule=schedule, learning_rate=0.2)
    rates = [recipe.rate(step, steps) for step in range(steps)]
    rising = round(warmup * steps)
    assert all(0.0 < rate <= 0.2 * (1 + 1e-12) for rate in rates)
    assert (np.diff(rates[:rising]) > 0).all()
    assert (np.diff(rates[rising:]) <= 0).all()
    if rising < steps:
        assert math.isclose(rates[rising], 0.2)


def test_settings_are_checked():
    for settings, text in (
        ({"epochs": -1}, "epochs=-1: must be at least 0"),
        ({"batch_size": 1}, "batch_size=1: must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: must be positive"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0: must not be negative"),
        ({"warmup": 1.0}, r"warmup=1.0: must be in \[0, 1\)"),
        ({"clip_grad": 0.0}, "clip_grad=0.0: must be positive, or null"),
    ):
        with pytest.raises(ValueError, match=text):
            FloatTraining(**settings)


def test_the_defaults_learn_the_digits():
    data = Digits()
    torch.manual_seed(0)
    module = MobileNetDigits().build(data.shape, data.num_classes)
    fit(module, data, FloatTraining(), seed=0)
    with torch.inference_mode():
        correct = sum(int((module(x).argmax(1) == y).sum()) for x, y in batches(data.test(), 360, data))
    assert correct / len(data.test()) >= 0.97


def test_frozen_parameters_stay_and_do_not_decay():
    torch.manual_seed(0)
    module = MobileNetDigits().build((1, 8, 8), 10)
    frozen = [p for i, p in enumerate(module.parameters()) if i % 2]
    before = [p.detach().clone() for p in frozen]
    for p in frozen:
        p.requires_grad_(False)
    fit(module, FewDigits(), replace(RECIPE, epochs=1, weight_decay=0.1), seed=0)
    assert all(torch.equal(p, old) for p, old in zip(frozen, before, strict=True))


def test_a_network_that_is_frozen_whole_is_refused():
    module = MobileNetDigits().build((1, 8, 8), 10).requires_grad_(False)
    with pytest.raises(PipelineError, match=r"epochs=3: there is nothing to train.*Sequential.*Remedy"):
        fit(module, FewDigits(), RECIPE, seed=0)
    fit(module, FewDigits(), replace(RECIPE, epochs=0), seed=0)


def test_autocast_trains_in_bfloat16_and_leaves_float32():
    module, plain = (MobileNetDigits().build((1, 8, 8), 10) for _ in range(2))
    plain.load_state_dict(module.state_dict())
    seen = set()
    first = next(each for each in module.modules() if isinstance(each, torch.nn.Conv2d))
    first.register_forward_hook(lambda _, inputs, output: seen.add(output.dtype))
    recipe = FloatTraining(epochs=1, batch_size=24, learning_rate=0.02)
    fit(module, FewDigits(), replace(recipe, autocast=True), seed=0)
    assert seen == {torch.bfloat16} and {t.dtype for t in module.parameters()} == {torch.float32}
    fit(plain, FewDigits(), recipe, seed=0)
    for ours, theirs in zip(module.parameters(), plain.parameters(), strict=True):
        assert 0.0 < (ours - theirs).abs().max() < 0.1
