"""``model=onnx``, ``model=tflite``: a network that another tool wrote, float or quantized."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from pipeline.errors import PipelineError
from stages.importers import read_program
from stages.integer.program import Program
from stages.models.named_inputs import with_inputs

if TYPE_CHECKING:
    from stages.importers.onnx import OnnxFile
    from stages.importers.onnx_file.reading import OnnxInput
    from stages.importers.tflite_file.contents import TfliteContents
    from stages.importers.tflite_file.floats.graph import TfliteFile


@dataclass(frozen=True, kw_only=True)
class ImportedModel:
    """A .onnx or .tflite file. A float network is calibrated, trained and quantized as any other.

    A quantized one is a program already: it is evaluated, measured and exported as it is.

    Args:
        path: the file; relative to the folder the command starts in.
        output: which of several results, by name; None for the first.
        inputs: the shapes of several inputs by name, which stand one after the other in a sample; None for
            one input.
    """

    pretrained: ClassVar[bool] = True

    path: str
    output: str | int | None = None
    inputs: Mapping[str, tuple[int, ...]] | None = field(default=None)

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The float network of the file, whatever its number of outputs.

        Raises:
            PipelineError: no such file, a damaged one, one that is quantized, operators that are not known,
                or samples of another shape.
        """
        if self.program() is not None:
            raise PipelineError(
                f"model.path={self.path}: holds integers, and no float network to train or quantize.\n"
                "Remedy: a backend that runs integers, as backend=native, to measure it; or the float network"
            )
        self._check_there()
        try:
            network = self._float.network()
            wanted = {one.name: one for one in self._float.inputs}
            given = dict(self.inputs or {})
            if not given and len(wanted) == 1:
                given = dict.fromkeys(wanted, tuple(shape))
            self._check_inputs(wanted, given)
            network.check(  # type: ignore[operator]
                {
                    name: (own, torch.int64 if wanted[name].integers else torch.float32)
                    for name, own in given.items()
                }
            )
        except PipelineError:
            raise
        except ValueError as error:
            raise self._refused(error) from error
        return with_inputs(network, self.inputs, tuple(shape))

    def program(self) -> Program | None:
        """The program of a quantized file; None for a float network, and where there is no file.

        Raises:
            PipelineError: a damaged file, or one with operators that have no form in integers.
        """
        try:
            return self._program
        except ValueError as error:
            raise self._refused(error) from error

    def fingerprint(self) -> str:
        """The sha256 of the file, and of those that its tensors lie in."""
        self._check_there()
        self.program()
        files = self._onnx.files if self._is_onnx else [Path(self.path)]
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()

    def _refused(self, error: ValueError) -> PipelineError:
        text = str(error).removeprefix(f"{self.path}: ")
        remedy = "" if "Remedy: " in text else ".\nRemedy: copy the file again, or export it anew"
        return PipelineError(f"model.path={self.path}: {text}{remedy}")

    def _check_there(self) -> None:
        if Path(self.path).is_dir():
            raise PipelineError(
                f"model.path={self.path}: is a folder.\nRemedy: model.path=<file.onnx or file.tflite>"
            )
        if not Path(self.path).is_file():
            raise PipelineError(
                f"model.path={self.path}: no such file (looked in {Path.cwd()}).\n"
                "Remedy: model.path=<file.onnx or file.tflite>"
            )

    @property
    def _is_onnx(self) -> bool:
        return Path(self.path).suffix == ".onnx"

    @cached_property
    def _onnx(self) -> OnnxFile:
        from stages.importers.onnx import OnnxFile

        return OnnxFile(Path(self.path))

    @cached_property
    def _tflite(self) -> TfliteContents:
        from stages.importers.tflite import read_contents

        return read_contents(Path(self.path))

    @cached_property
    def _float(self) -> OnnxFile | TfliteFile:
        if self._is_onnx:
            return self._onnx
        from stages.importers.tflite_file.floats.graph import TfliteFile

        return TfliteFile(Path(self.path), self._tflite)

    @cached_property
    def _program(self) -> Program | None:
        path = Path(self.path)
        if not path.is_file():
            return None  # `build` and `fingerprint` say so
        if self._is_onnx and not self._onnx.quantized:
            return None
        if path.suffix == ".tflite":
            from stages.importers.tflite import is_float

            if is_float(self._tflite):
                return None
        return read_program(path)

    def _check_inputs(self, wanted: Mapping[str, OnnxInput], given: Mapping[str, tuple[int, ...]]) -> None:
        """Raise unless the file takes these inputs, with samples of these shapes."""
        if wanted.keys() != given.keys():
            shapes = ", ".join(f"{one.name}: {list((one.shape or ())[1:])}" for one in wanted.values())
            raise PipelineError(
                f"model.path={self.path}: takes the inputs {', '.join(wanted) or 'none'}, and is given "
                f"{', '.join(given) or 'one'}.\nRemedy: model.inputs={{{shapes}}}, one after the other in "
                "a sample"
            )
        for name, shape in given.items():
            declared = wanted[name].shape
            if wanted[name].dtype not in ("float", "double", "float16", "bfloat16", "int32", "int64"):
                raise PipelineError(
                    f"model.path={self.path}: input '{name}' is {wanted[name].dtype}: floats, or numbers of "
                    "tokens in 32 or 64 bits, are read"
                )
            if declared is None:
                continue
            sizes = zip(declared[1:], shape, strict=False)
            if len(declared) != len(shape) + 1 or any(own not in (None, size) for own, size in sizes):
                text = ", ".join("?" if size is None else str(size) for size in declared[1:])
                raise PipelineError(
                    f"model.path={self.path}: input '{name}' takes samples of [{text}], and the data's are "
                    f"{list(shape)}.\nRemedy: data of that shape, or export the network for this one"
                )
