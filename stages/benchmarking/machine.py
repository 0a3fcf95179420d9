"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.environment import available_cores
from stages.backends.native_kernels.library import find_library

PACKAGES = ("torch", "numpy", "onnxruntime", "openvino", "nncf", "torchao", "ai-edge-litert")
PEERS = ("MNN", "ncnn", "pnnx", "executorch", "iree-base-compiler", "iree-base-runtime")


def machine(isa: str | None = None) -> dict[str, str]:
    """The processor, its cores, the load of other processes at the start, and the packages' versions.

    ``native`` is the instruction set that the native engine takes here, of those that `isa` leaves, or why it
    cannot run.
    """
    library = find_library(isa)
    native = library if isinstance(library, str) else library.isa
    facts = {
        "processor": _processor(),
        "native": native,
        "cores": str(available_cores()),
        "python": platform.python_version(),
    }
    if hasattr(os, "getloadavg"):
        facts["load"] = f"{os.getloadavg()[0]:.2f}"
    for package in (*PACKAGES, *PEERS):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
