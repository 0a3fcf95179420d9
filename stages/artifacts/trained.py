"""The weights of the trained network, apart from what they are captured as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.errors import PipelineError


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """The parameters and buffers of a module, by name: those that a state dict leaves out as well.

    Args:
        state: on the CPU, contiguous. A tensor that goes by several names is there once, by the first.
    """

    kind: ClassVar[str] = "trained_model"
    state: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """A copy of all that `module` holds."""
        return cls(state={name: t.detach().cpu().clone().contiguous() for name, t in _tensors(module)})

    def restore(self, module: nn.Module) -> nn.Module:
        """Copy it into `module`, built as the trained one was, and return that.

        Raises:
            PipelineError: its tensors have other names or shapes: it is not built the same each time.
        """
        there = dict(_tensors(module))
        shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in (self.state, there)]
        if wrong := sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()}):
            raise PipelineError(
                f"model: building it again gives other tensors than were trained: {', '.join(wrong[:3])}"
                f"{', …' if len(wrong) > 3 else ''}. Remedy: a build() whose names and shapes depend on "
                "nothing but its arguments"
            )
        with torch.no_grad():
            for name, tensor in there.items():
                tensor.copy_(self.state[name])
        return module

    def save(self, directory: Path) -> None:
        """Write ``state.safetensors``."""
        save_file(dict(self.state), directory / "state.safetensors")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        return cls(state=load_file(directory / "state.safetensors"))


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters, then buffers; tied ones once."""
    return [*module.named_parameters(), *module.named_buffers()]
