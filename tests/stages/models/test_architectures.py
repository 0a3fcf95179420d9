"""Parameter counts against the published ones, key names, and capture by torch.export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from pipeline.errors import PipelineError
from stages.data.image_folder import image_folder
from stages.models.base import Model
from stages.models.lenet import LeNet5, LeNet300100
from stages.models.mobilenet import MobileNetV1, MobileNetV2
from stages.models.mobilenet_digits import MobileNetDigits
from stages.models.resnet_cifar import ResNetCifar

SHARED = Path(__file__).parents[4] / "shared"
WEIGHTS = SHARED / "models" / "resnet20_cifar10jpeg.safetensors"

PUBLISHED = [
    (LeNet5(), (1, 28, 28), 10, 431_080),
    (LeNet300100(), (1, 28, 28), 10, 266_610),
    (ResNetCifar(depth=20), (3, 32, 32), 10, 269_722),
    (ResNetCifar(depth=32), (3, 32, 32), 10, 464_154),
    (ResNetCifar(depth=44), (3, 32, 32), 10, 658_586),
    (ResNetCifar(depth=56), (3, 32, 32), 10, 853_018),
    (MobileNetV1(), (3, 224, 224), 1000, 4_231_976),
    (MobileNetV2(), (3, 224, 224), 1000, 3_504_872),
    (MobileNetDigits(), (1, 8, 8), 10, 18_826),
]
SMALL = [
    (LeNet5(), (1, 28, 28)),
    (LeNet300100(), (1, 28, 28)),
    (ResNetCifar(), (3, 32, 32)),
    (MobileNetV1(width=0.25, stem_stride=1, first_stride=1), (3, 32, 32)),
    (MobileNetV2(width=0.35, stem_stride=1, first_stride=1), (3, 32, 32)),
    (MobileNetDigits(), (1, 8, 8)),
]


def name_of(value: object) -> str | None:
    return repr(value) if isinstance(value, Model) else None


@pytest.mark.parametrize(("model", "shape", "num_classes", "parameters"), PUBLISHED, ids=name_of)
def test_parameters_are_as_many_as_published(model, shape, num_classes, parameters):
    module = model.build(shape, num_classes)
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize(("model", "shape"), SMALL, ids=name_of)
def test_export_captures_with_a_dynamic_batch(model, shape):
    module = model.build(shape, 7).eval()
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(module, (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},))
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = exported.module()(x)
        assert logits.shape == (5, 7)
        assert torch.allclose(logits, module(x), atol=1e-5)


@pytest.mark.parametrize(("model", "shape"), SMALL, ids=name_of)
def test_models_follow_the_protocol_and_build_the_same_from_the_same_seed(model, shape):
    assert isinstance(model, Model) and model.fingerprint() == ""
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(model.build(shape, 4).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_mobilenet_halves_the_resolution_five_times_or_as_asked():
    x = torch.zeros(1, 3, 64, 64)
    for model in (MobileNetV1, MobileNetV2):
        for settings, side in (({}, 2), ({"stem_stride": 1}, 4), ({"stem_stride": 1, "first_stride": 1}, 8)):
            module = model(width=0.25, **settings).build((3, 64, 64), 2).eval()
            assert module.features(x).shape[2:] == (side, side)


def test_mobilenet_v2_has_the_names_that_published_weights_have():
    state = MobileNetV2().build((3, 224, 224), 1000).state_dict()
    assert state["features.0.0.weight"].shape == (32, 3, 3, 3)
    assert state["features.1.conv.0.0.weight"].shape == (32, 1, 3, 3)  # no expansion in the first block
    assert state["features.1.conv.1.weight"].shape == (16, 32, 1, 1)
    assert state["features.1.conv.2.running_var"].shape == (16,)
    assert state["features.2.conv.1.0.weight"].shape == (96, 1, 3, 3)
    assert state["features.17.conv.2.weight"].shape == (320, 960, 1, 1)
    assert state["features.17.conv.3.bias"].shape == (320,)
    assert state["features.18.0.weight"].shape == (1280, 320, 1, 1)
    assert state["classifier.1.weight"].shape == (1000, 1280)
    assert len(state) == 314


def test_widths_round_to_multiples_of_eight():
    state = MobileNetV2(width=0.35).build((3, 32, 32), 10).state_dict()
    assert state["features.0.0.weight"].shape[0] == 16  # 11.2: not 8, which is below 90 %
    assert state["features.18.0.weight"].shape[0] == 1280  # never narrower


def test_a_narrowing_block_takes_every_second_pixel_and_pads_channels():
    """With its own path at zero, a block is relu(shortcut)."""
    block = ResNetCifar().build((3, 32, 32), 10).eval().layer2[0]
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(2, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
    assert torch.equal(block(x), expected)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="depth=18: must be 20, 32, 44 or 56"):
        ResNetCifar(depth=18)
    with pytest.raises(ValueError, match="width=0: must be positive"):
        MobileNetV1(width=0)
    with pytest.raises(ValueError, match="first_stride=3: must be 1 or 2"):
        MobileNetV2(first_stride=3)
    with pytest.raises(PipelineError, match=r"at least 16×16 pixels, not 8×8.\nRemedy: choose data=mnist"):
        LeNet5().build((1, 8, 8), 10)


def test_the_trained_resnet20_classifies_as_promised(tmp_path):
    archive = SHARED / "data" / "cifar10_jpeg_test.zip"
    if not (WEIGHTS.is_file() and archive.is_file()):
        pytest.skip("the trained ResNet-20 and its images are not in shared")
    data = image_folder(train=archive, test=archive, cache=tmp_path)
    module = ResNetCifar(weights=str(WEIGHTS)).build(data.shape, data.num_classes).eval()
    assert set(load_file(WEIGHTS)) == set(module.state_dict())
    rows = np.arange(0, 10_000, 20)
    x = torch.from_numpy(data.test().images[rows]).float().div(255)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (data.mean, data.std))
    with torch.inference_mode():
        predicted = module((x - mean) / std).argmax(1).numpy()
    # 0.8797 on all 10,000; the standard error on 500 is 0.0145
    assert 0.84 < (predicted == data.test().labels[rows]).mean() < 0.92
