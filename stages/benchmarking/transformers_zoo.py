"""Text and vision encoders of Hugging Face's transformers: https://github.com/huggingface/transformers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from stages.benchmarking.torchvision_operators import optional_torchvision_operators
from stages.benchmarking.zoo import Network, count_parameters

LENGTH = 32
"""Tokens of a text."""

NARROW = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
WORDS = {**NARROW, "vocab_size": 1000, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENDS = {"cls_token_id": 1, "sep_token_id": 2}
T5 = {"vocab_size": 1000, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
STAGES = {"depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8], "embed_dim": 32}
WIDE = {"hidden_dim": 1280}
AS_IT_IS: Mapping[str, Any] = {}
HIDDEN = {"depths": [1, 1, 1, 1], "hidden_sizes": [32, 64, 96, 128]}

TEXTS: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("Bert", "DistilBert", "Roberta", "Albert", "Electra", "Deberta", "DebertaV2"), WORDS),
    **dict.fromkeys(("MPNet", "XLMRoberta", "Camembert", "Ernie", "Nystromformer"), WORDS),
    **dict.fromkeys(("ConvBert", "RoFormer", "RemBert", "BigBird", "FNet", "Yoso", "IBert"), WORDS),
    **dict.fromkeys(("Splinter", "MegatronBert", "Data2VecText", "LayoutLM", "Mra", "Canine"), WORDS),
    **dict.fromkeys(("XLMRobertaXL", "RobertaPreLayerNorm", "CLIPText", "SiglipText"), WORDS),
    "MobileBert": {**WORDS, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "ModernBert": {**WORDS, "layer_types": ["full_attention", "sliding_attention"], **ENDS},
    "Esm": {**WORDS, "mask_token_id": 3},
    "Xmod": {**WORDS, "languages": ["en_XX"], "default_language": "en_XX"},
    "Lilt": {**WORDS, "hidden_size": 48, "channel_shrink_ratio": 4, "max_2d_position_embeddings": 64},
    "SqueezeBert": {**WORDS, "embedding_size": 32},
    **dict.fromkeys(("T5", "MT5", "UMT5"), T5),
}
"""Families of text encoders, each with its settings."""

IMAGES: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("ViT", "DeiT", "Beit", "Dinov2", "Dinov2WithRegisters", "DINOv3ViT", "IJepa"), NARROW),
    **dict.fromkeys(("Data2VecVision", "ViTMSN", "Yolos", "SiglipVision", "CLIPVision", "VitDet"), NARROW),
    "DPT": NARROW,
    **dict.fromkeys(("Swin", "Swinv2", "FocalNet"), STAGES),
    **dict.fromkeys(("ConvNext", "ConvNextV2", "ResNet", "RegNet"), HIDDEN),
    **dict.fromkeys(("MobileNetV1", "MobileNetV2", "MobileViT", "MobileViTV2", "PoolFormer"), AS_IT_IS),
    **dict.fromkeys(("Pvt", "PvtV2", "Cvt", "Segformer", "Levit", "Hiera", "Bit", "SwiftFormer"), AS_IT_IS),
    **dict.fromkeys(("GLPN", "TextNet", "HGNetV2", "DINOv3ConvNext"), AS_IT_IS),
    "EfficientNet": {"image_size": 224, "width_coefficient": 1.0, "depth_coefficient": 1.0, **WIDE},
}
"""Families of vision encoders, each with its settings."""

MODELS = {family: f"{family}EncoderModel" for family in ("T5", "MT5", "UMT5")} | {
    "HGNetV2": "HGNetV2Backbone"
}
"""Classes that are not called ``<family>Model``."""


@dataclass(frozen=True, kw_only=True)
class TransformersZoo:
    """Encoders in small configurations: texts of 32 tokens, images of the size of the family."""

    name: ClassVar[str] = "transformers"

    def check(self) -> None:
        """Raise where transformers is not installed."""
        try:
            with transformers_package():
                pass
        except ImportError as error:
            raise ConfigError(f"transformers is not installed ({error}); pip install '.[zoo]'") from error

    def families(self) -> tuple[str, ...]:
        """Text encoders, then vision encoders."""
        return (*TEXTS, *IMAGES)

    def network(self, family: str) -> Network:
        """The encoder of a family. ValueError where it cannot be built, as in another release."""
        build = partial(_built, family)
        try:
            size = getattr(_configuration(family), "image_size", 224)
            count = count_parameters(build)
        except Exception as error:  # whatever a constructor raises
            raise ValueError(f"{family} cannot be built: {type(error).__name__}: {error}") from error
        height, width = (size, size) if isinstance(size, int) else size
        if family in TEXTS:
            return Network(name=family, parameters=count, shape=(LENGTH,), dtype=torch.int64, build=build)
        return Network(name=family, parameters=count, shape=(3, height, width), build=build)


class Encoder(nn.Module):
    """A model called with its input by name."""

    def __init__(self, model: nn.Module, argument: str) -> None:
        super().__init__()
        self.model = model
        self.argument = argument

    def forward(self, x: Tensor) -> Any:
        """What the model gives for `x`."""
        return self.model(**{self.argument: x})


@contextmanager
def transformers_package() -> Iterator[Any]:
    """The package, whose classes are imported when first asked for."""
    with warnings.catch_warnings(), optional_torchvision_operators():
        warnings.simplefilter("ignore")
        import transformers

        yield transformers


def _configuration(family: str) -> Any:
    settings = TEXTS[family] if family in TEXTS else IMAGES[family]
    with transformers_package() as transformers:
        return getattr(transformers, f"{family}Config")(**settings)


def _built(family: str) -> nn.Module:
    with transformers_package() as transformers:
        model = getattr(transformers, MODELS.get(family, f"{family}Model"))(_configuration(family))
    return Encoder(model, "input_ids" if family in TEXTS else "pixel_values").eval()
