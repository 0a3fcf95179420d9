"""The float module as an ONNX file, as torch writes it and the runtimes' own tools read it."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import torch

from stages.benchmarking.competitor import Case

OPSET = 17


def float_onnx(case: Case) -> Path:
    """Write the module for the case's batch size, BatchNorm folded; returns the file.

    Raises ImportError where onnx is missing, and what torch's exporter raises.
    """
    import onnx  # noqa: F401 - torch's exporter says less clearly that it is missing

    path = case.scratch / f"float_{len(case.x)}.onnx"
    if not path.exists():
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                case.module,
                (case.x,),
                path,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "N"}, "output": {0: "N"}},
                opset_version=OPSET,
                dynamo=False,
            )
    return path
