"""Facts about the machine and the software that a run's numbers depend on."""

from __future__ import annotations

import math
import os
import platform
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

MOST_THREADS = 8
PACKAGES = ("torch", "numpy", "hydra-core", "mlflow-skinny", "onnxruntime")
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
"""What integer kernels dispatch on, as Linux names it."""


@dataclass(frozen=True, kw_only=True)
class LaunchedProcess:
    """Where a process stands among those that were started together.

    Args:
        rank: its number, 0 .. size − 1.
        size: how many there are, on all machines.
        local_rank: its number on this machine.
        local_size: how many there are on this machine.
    """

    rank: int
    size: int
    local_rank: int = 0
    local_size: int = 1


def launched(variables: Mapping[str, str] | None = None) -> LaunchedProcess | None:
    """The place that ``torchrun``, or who else sets its variables, gave this process; None where nobody did.

    Args:
        variables: None for the environment's; RANK, WORLD_SIZE and MASTER_ADDR all have to be there, since
            clusters set one or the other for purposes of their own.
    """
    given = os.environ if variables is None else variables
    rank, size = given.get("RANK", ""), given.get("WORLD_SIZE", "")
    if not (rank.isdecimal() and size.isdecimal() and given.get("MASTER_ADDR")):
        return None
    local_rank, local_size = given.get("LOCAL_RANK", ""), given.get("LOCAL_WORLD_SIZE", "")
    return LaunchedProcess(
        rank=int(rank),
        size=int(size),
        local_rank=int(local_rank) if local_rank.isdecimal() else 0,
        local_size=int(local_size) if local_size.isdecimal() else 1,
    )


def available_cores(root: Path = Path("/")) -> int:
    """Count the cores that this process may keep busy, at least 1: the default number of threads.

    The least of what the scheduler allows it (``taskset``; all cores where the system cannot say) and its
    control groups' quota (`core_quota`), which containers are limited by.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = core_quota(root)
    return allowed if quota is None else min(allowed, quota)


def default_threads() -> int:
    """Choose how many threads numeric libraries use where nothing says: the available cores, at most 8.

    A small network is not faster on 64 of them, and others may want them. The load of the machine does not
    count: what is trained is kept by its number of threads, and would be trained anew whenever that changed.
    """
    return min(available_cores(), MOST_THREADS)


def threads_in_use() -> int:
    """Count the threads that libraries of this process use, for what has threads of its own beside theirs.

    ``OMP_NUM_THREADS``, which a run sets; without it as `default_threads`.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else default_threads()


def is_busy() -> bool:
    """Whether the cores that this process may use are busy, as the last minute's load says."""
    try:
        return os.getloadavg()[0] >= available_cores()
    except (AttributeError, OSError):  # Windows has none
        return False


def core_quota(root: Path = Path("/")) -> int | None:
    """Count the cores whose time a process's control groups allow it, rounded up; None without a limit.

    A group's time is limited by its own quota and by that of each group above it.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """
    shares = [
        share for folder in _control_groups(root) for share in (_quota_v2(folder), _quota_v1(folder)) if share
    ]
    return max(1, math.ceil(min(shares))) if shares else None


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


def _control_groups(root: Path) -> Iterator[Path]:
    """The folders of the process's control groups and of all above them, of version 2 and of version 1."""
    mounted = root / "sys/fs/cgroup"
    lines = (_read(root / "proc/self/cgroup") or "0::/").splitlines()
    for line in lines:  # hierarchy:controllers:path
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top = mounted
        elif "cpu" in controllers.split(","):
            top = mounted / "cpu"
        else:
            continue
        # in a container the path may be the host's, and not be there
        inner = top / path.strip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder == top or top in folder.parents)


def _quota_v2(folder: Path) -> float | None:
    """``cpu.max`` is ``quota period`` in microseconds, or ``max period``."""
    quota, _, period = (_read(folder / "cpu.max") or "max 1").partition(" ")
    return _share(quota, period)


def _quota_v1(folder: Path) -> float | None:
    """Two files; a quota of -1 is none."""
    return _share(_read(folder / "cpu.cfs_quota_us") or "-1", _read(folder / "cpu.cfs_period_us") or "1")


def _share(quota: str, period: str) -> float | None:
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return None


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
