"""A network that `torch.export` has traced before: structure and weights in one file."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import PipelineError
from stages.models.exported_archive import safe_archive
from stages.models.tensor_kinds import check_finite, check_kind
from stages.models.weights import weights_fingerprint


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A ``.pt2`` file, as `torch.export.save` writes it, with a batch of any size. No code of it runs.

    Args:
        path: the file; relative to the folder the command starts in.
    """

    path: str

    @property
    def weights(self) -> str:
        """The same file: nothing has to be trained."""
        return self.path

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The network of the file, whatever its number of outputs; its layers keep the names that they had.

        Raises:
            PipelineError: no such file, one that would run code, one for a fixed batch or another shape, or
                weights that are no plain finite numbers.
        """
        archive = safe_archive(Path(self.path))
        exporter = logging.getLogger("torch.export")
        level = exporter.level
        exporter.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.export.load(archive)
                guarded = "check_guards" in signature(program.module).parameters  # not so in torch 2.8
                module = program.module(**({"check_guards": False} if guarded else {}))
        except Exception as error:  # of many types: another version's schema, a damaged file
            reason = (str(error).strip().splitlines() or [""])[0]
            raise PipelineError(
                f"model.path={self.path}: torch {torch.__version__} cannot load it: "
                f"{type(error).__name__}: {reason}\nRemedy: export it again with this version"
            ) from error
        finally:
            exporter.setLevel(level)
        for name, tensor in {**program.state_dict, **program.constants}.items():
            if not isinstance(tensor, torch.Tensor):
                raise PipelineError(
                    f"model.path={self.path}: '{name}' is no tensor, but {type(tensor).__name__}.\n"
                    "Remedy: export a network whose constants are tensors"
                )
            check_kind(name, tensor, f"model.path={self.path}", dense=True)
            if name in program.graph_signature.parameters:  # a mask may hold -inf
                check_finite(name, tensor, f"model.path={self.path}")
        self._check_input(program, shape)
        for mode in ("train", "eval"):  # replaced by functions that refuse; traced, the mode changes nothing
            module.__dict__.pop(mode, None)
        return module

    def fingerprint(self) -> str:
        """The sha256 of the file."""
        return weights_fingerprint(self.path)

    def _check_input(self, program: torch.export.ExportedProgram, shape: tuple[int, ...]) -> None:
        """Raise unless it takes (N, *shape) with any N."""
        names = program.graph_signature.user_inputs
        values: list[Any] = [
            n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in names
        ]
        if len(values) != 1:
            raise PipelineError(
                f"model.path={self.path}: takes {len(values)} inputs. Remedy: export a network with one"
            )
        batch, *sizes = values[0].shape
        if isinstance(batch, int):
            raise PipelineError(
                f"model.path={self.path}: was exported for batches of {batch} and no others.\n"
                "Remedy: torch.export.export(module, (example,), "
                "dynamic_shapes=({0: torch.export.Dim('batch')},))"
            )
        fixed = [(a, b) for a, b in zip(sizes, shape, strict=False) if isinstance(a, int) and a != b]
        if fixed or len(sizes) != len(shape):
            raise PipelineError(
                f"model.path={self.path}: was exported for samples of {[str(s) for s in sizes]}, and the "
                f"data's are {list(shape)}. Remedy: data of that shape, or export it for this one"
            )
