"""timm's architectures: https://github.com/huggingface/pytorch-image-models."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn

from pipeline.errors import ConfigError
from stages.benchmarking.torchvision_operators import optional_torchvision_operators
from stages.benchmarking.zoo import Network, count_parameters


@dataclass(frozen=True, kw_only=True)
class TimmZoo:
    """The smallest model of every module of timm, on one image of the size that it was designed for."""

    name: ClassVar[str] = "timm"

    def check(self) -> None:
        """Raise where timm is not installed."""
        try:
            timm_package()
        except ImportError as error:
            raise ConfigError(f"timm is not installed ({error}); pip install '.[zoo]'") from error

    def families(self) -> tuple[str, ...]:
        """The modules of ``timm.models``."""
        return tuple(timm_package().list_modules())

    def network(self, family: str) -> Network:
        """The model of a module with the fewest parameters. ValueError where none can be built."""
        timm = timm_package()
        smallest: tuple[int, str] | None = None
        problem = "it has no models"
        for name in timm.list_models(module=family):
            try:
                count = count_parameters(partial(timm.create_model, name))
            except Exception as error:  # whatever a constructor raises, among them one that reads its weights
                problem = f"{name}: {type(error).__name__}: {error}"
                continue
            if smallest is None or count < smallest[0]:
                smallest = count, name
        if smallest is None:
            raise ValueError(f"no model of timm.models.{family} can be built; {problem}")
        count, name = smallest
        shape = tuple(int(size) for size in timm.get_pretrained_cfg(name).input_size)
        return Network(name=name, parameters=count, shape=shape, build=partial(_built, name))


def _built(name: str) -> nn.Module:
    module: nn.Module = timm_package().create_model(name).eval()
    return module


def timm_package() -> Any:
    """Import timm, which needs torchvision, with or without its compiled operators. Raises ImportError."""
    with warnings.catch_warnings(), optional_torchvision_operators():
        warnings.simplefilter("ignore")
        import timm
    return timm
