from __future__ import annotations

import pytest

from pipeline.errors import PipelineError
from stages.models.lenet import LeNet5
from stages.models.mobilenet import MobileNetV1, MobileNetV2
from stages.models.mobilenet_digits import MobileNetDigits
from stages.models.resnet_cifar import ResNetCifar


@pytest.mark.parametrize("model", [LeNet5(), MobileNetV1(), MobileNetV2(), MobileNetDigits(), ResNetCifar()])
def test_networks_for_images_say_what_they_take(model):
    with pytest.raises(
        PipelineError, match=r"takes images .* samples are \(49, 10\)\.\nRemedy: .*lenet300_100"
    ):
        model.build((49, 10), 4)
