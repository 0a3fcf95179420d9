"""The code that a served model runs by, as a wheel: where it is served, nothing of this project is installed.

A wheel is a zip archive of packages and of a folder that describes them (https://packaging.python.org,
"Binary distribution format"). This one holds the closure of a few modules (`pipeline.store.imports`) and
nothing else, some hundred kilobytes; the same sources give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.place import ROOT
from pipeline.store.imports import closure

NAME = "quantization_pipeline"
OWN = ("conf", "pipeline", "stages")
"""The project's packages; installed, they lie among those of all others."""

_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def write_wheel(modules: Collection[str], requirements: Collection[str], folder: Path) -> Path:
    """Write the wheel of `modules` into `folder`; returns its path.

    Args:
        modules: what is imported where it is installed, by dotted name.
        requirements: the distributions that it needs, ``numpy>=1.26``.
        folder: made where it is not there.

    Raises:
        PipelineError: one of `modules` has no source file.
    """
    files = dict(_sources(closure(modules, OWN).code))
    about = f"{NAME}-{_version()}.dist-info"
    needed = "".join(f"Requires-Dist: {one}\n" for one in requirements)
    files[f"{about}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {_version()}\nRequires-Python: >=3.11\n{needed}"
    ).encode()
    files[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = f"{about}/RECORD"
    files[record] = _record(files, record).encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{NAME}-{_version()}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), content, zipfile.ZIP_DEFLATED)
    return wheel


def _sources(code: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Path and content of each module, and of each file that a package reads."""
    for name in code:
        path = Path(name) if "/" in name else Path(*name.split("."))
        if (ROOT / path / "__init__.py").is_file():
            path = path / "__init__.py"
        elif "/" not in name:
            path = path.with_name(f"{path.name}.py")
        yield path.as_posix(), (ROOT / path).read_bytes()


def _record(files: Mapping[str, bytes], own: str) -> str:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{own},,\n"])


def _version() -> str:
    try:
        return f"{version('quantization-pipeline')}+served"
    except PackageNotFoundError:  # the project runs from its folder
        return "0+served"
