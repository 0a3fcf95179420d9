"""Networks by name, with random weights, out of packages that are not needed otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.errors import ConfigError
from stages.benchmarking.timm_zoo import timm_package
from stages.benchmarking.transformers_zoo import Encoder, transformers_package


@dataclass(frozen=True, kw_only=True)
class TimmNetwork:
    """A network of timm.

    Args:
        network: its name there, as ``resnet50``.
    """

    weights: ClassVar[str | None] = None

    network: str

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The network for images of `shape`. ConfigError with the remedy where timm is missing."""
        try:
            timm = timm_package()
        except ImportError as error:
            raise ConfigError(
                f"{self.network}: timm is not installed ({error}); pip install '.[zoo]', "
                "or benchmark.networks=[…] without it"
            ) from error
        module: nn.Module = timm.create_model(self.network, num_classes=num_classes, in_chans=shape[0])
        return module


@dataclass(frozen=True, kw_only=True)
class MiniLm:
    """all-MiniLM-L6-v2's BERT: 6 layers of 384 channels and 12 heads, random weights; tokens in, tokens out.

    Args:
        vocabulary: rows of the embedding.
    """

    weights: ClassVar[str | None] = None

    vocabulary: int = 30522

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The encoder, (N, T) int64 to (N, T, 384). ConfigError where transformers is missing."""
        try:
            with transformers_package() as transformers:
                configuration = transformers.BertConfig(
                    vocab_size=self.vocabulary,
                    hidden_size=384,
                    num_hidden_layers=6,
                    num_attention_heads=12,
                    intermediate_size=1536,
                )
                model = transformers.BertModel(configuration, add_pooling_layer=False)
        except ImportError as error:
            raise ConfigError(
                f"MiniLM: transformers is not installed ({error}); pip install '.[zoo]', "
                "or benchmark.networks=[…] without it"
            ) from error
        return _LastHidden(Encoder(model, "input_ids"))


class _LastHidden(nn.Module):
    """The first result alone, which is a tensor: not every tool takes a mapping."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Any:
        return self.encoder(x)[0]
