"""Facts about the machine and the software that a run's numbers depend on."""

from __future__ import annotations

import platform
import re
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "numpy", "hydra-core", "mlflow-skinny", "onnxruntime")
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
"""What integer kernels dispatch on, as Linux names it."""


def environment(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Flat name to text: ``git_commit``, ``host``, ``version/<package>``, ``cpu/…``."""
    facts = {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "version/python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            facts[f"version/{package}"] = version(package)
        except PackageNotFoundError:
            continue
    if commit := _git("rev-parse", "HEAD"):
        changed = bool(_git("status", "--porcelain", "--untracked-files=no"))
        facts["git_commit"] = f"{commit} with changes" if changed else commit
    if cpuinfo.is_file():
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
        flags = set(_first(r"^(?:flags|Features)\s*:(.*)$", text).split())
        facts["cpu/model"] = _first(r"^model name\s*:(.*)$", text) or platform.machine()
        facts["cpu/features"] = " ".join(name for name in CPU_FEATURES if name in flags)
    return facts


def _git(*arguments: str) -> str:
    """The output of git in the current folder; empty where there is no repository, or no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else ""
