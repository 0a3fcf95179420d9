"""Sessions on the HTP simulator, the x86-64 libraries ``libQnnHtp.so`` of QAIRT in onnxruntime-qnn."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.backends.foreign.executable import Session, require
from stages.exporters.exporter import named

if TYPE_CHECKING:
    import onnx

PROVIDER = "QNNExecutionProvider"

LEAST_GLIBC = (2, 35)
"""What onnxruntime-qnn's wheel asks for: its tag is manylinux_2_35."""


def check_machine() -> None:
    """Raise `PipelineError` where the simulator cannot run: its packages, Linux on x86-64, glibc 2.35."""
    found, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if sys.platform != "linux" or platform.machine() != "x86_64" or found != "glibc" or numbers < LEAST_GLIBC:
        raise PipelineError(
            "backend=qnn: onnxruntime-qnn's HTP simulator is for Linux on x86-64 with glibc 2.35 or later; "
            f"this is {sys.platform} on {platform.machine()} with {found or 'another C library'} {version}. "
            "Remedy: Ubuntu 22.04, Debian 12 or later, or export=[qnn] and the device itself"
        )
    for package in ("onnx", "onnxruntime", "onnxruntime_qnn"):
        require(package, "qnn", extra="qnn")


def load_htp_session(model: onnx.ModelProto, htp_arch: str = "73") -> Session:
    """An ONNX model with fixed shapes as a function from its only input to its outputs, all on HTP.

    Raises:
        PipelineError: HTP does not take it; names the operators that it does not take alone either.
    """
    from stages.backends.qnn_htp.units import refused_units

    try:
        session = _session(model.SerializeToString(), htp_arch)
    except Exception as error:  # onnxruntime's errors have no base of their own
        refused = refused_units(model, lambda unit: _session(unit, htp_arch))
        what = named(refused, most=8) if refused else "the network as a whole"
        raise PipelineError(
            f"backend=qnn: HTP does not take {what} ({str(error).strip().splitlines()[0]}). "
            "Remedy: another backend (backend=native), or a network without it"
        ) from error
    (name,) = (node.name for node in session.get_inputs())

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        outputs: list[NDArray[Any]] = session.run(None, {name: x})
        return outputs

    return run


def in_batches(session: Session, batch: int) -> Session:
    """A session for `batch` samples as one for any number; the last batch is filled up with zeros."""

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        missing = -len(x) % batch if len(x) else batch
        filled = np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x
        parts = [session(filled[i : i + batch]) for i in range(0, len(filled), batch)]
        return [np.concatenate(part)[: len(x)] for part in zip(*parts, strict=True)]

    return run


def _session(model: bytes, htp_arch: str) -> Any:
    """onnxruntime's session; what it cannot give to HTP is an error, when it is made and when it runs."""
    import onnxruntime
    import onnxruntime_qnn

    def devices() -> list[Any]:
        return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]

    if not devices():  # once a process
        onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    settings = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "htp_arch": htp_arch}
    options.add_provider_for_devices(devices(), settings)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(model, options)
    session.disable_fallback()  # a failing run would start anew on the CPU, with a line on the console
    return session
