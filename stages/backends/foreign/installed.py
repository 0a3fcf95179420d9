"""What a backend over another runtime needs, and which version of it is there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import ClassVar, Protocol, runtime_checkable

from stages.backends.base import Backend
from stages.backends.foreign.executable import require


@runtime_checkable
class ForeignRuntime(Protocol):
    """A backend over another runtime also says this of it."""

    packages: ClassVar[tuple[str, ...]]
    """What it imports when it compiles a program, the runtime's own package first."""

    @property
    def export(self) -> str:
        """The exporter whose file is the runtime's own."""


def require_installed(backend: Backend) -> None:
    """Raise `PipelineError` where a package is missing that the backend says it needs.

    A backend with an `extra` names the one of ours that installs it; else that is ``bench``.
    """
    for package in backend.packages if isinstance(backend, ForeignRuntime) else ():
        if find_spec(package) is None:
            require(package, backend.name, extra=getattr(backend, "extra", "bench"))


def runtime_version(backend: Backend) -> str:
    """The runtime's own package and its version, ``onnxruntime 1.32.0``; empty where there is none."""
    if not isinstance(backend, ForeignRuntime):
        return ""
    try:
        return f"{backend.packages[0]} {version(backend.packages[0])}"
    except PackageNotFoundError:
        return ""


def runtime_export(backend: Backend) -> str:
    """The exporter whose file is the runtime's own; empty where there is none."""
    return backend.export if isinstance(backend, ForeignRuntime) else ""
