from __future__ import annotations

import os
import platform
import subprocess

import pytest

from pipeline import environment as facts_of
from pipeline.environment import (
    available_cores,
    core_quota,
    default_threads,
    environment,
    is_busy,
    threads_in_use,
)
from pipeline.sweeps.jobs import threads_per_job

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2 GHz
flags\t\t: fpu avx2 avx512f avx512_vnni avx512_vnni_not
processor\t: 1
"""


def test_the_cpu_features_that_kernels_dispatch_on_are_named(tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    facts = environment(tmp_path / "cpuinfo")
    assert facts["cpu/model"] == "Some CPU @ 2 GHz"
    assert facts["cpu/features"] == "avx2 avx512f avx512_vnni"
    assert facts["version/python"] == platform.python_version() and "version/torch" in facts
    assert "cpu/model" not in environment(tmp_path / "missing")


def test_the_commit_is_that_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "git_commit" not in environment()

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        return subprocess.run(
            ["git", *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    (tmp_path / "file").write_text("1")
    git("init", "-q")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert environment()["git_commit"] == commit
    (tmp_path / "file").write_text("2")
    assert environment()["git_commit"] == f"{commit} with changes"


def fake_root(root, group, **files):
    """A root folder with the process in `group`, and files by path below ``sys/fs/cgroup``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    for path, text in files.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("group", "files", "cores"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # a part of a core is one more
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        # every group above counts, and a path that a container does not see leaves its root
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000", "a/cpu.max": "300000 100000"}, 2),
        ("0::/host/path\n", {"cpu.max": "400000 100000"}, 4),
        ("3:cpu,cpuacct:/a\n1:cpuset:/\n", {"cpu/a/cpu.cfs_quota_us": "-1"}, None),
        (
            "3:cpu,cpuacct:/a\n1:cpuset:/\n",
            {"cpu/a/cpu.cfs_quota_us": "500000", "cpu/a/cpu.cfs_period_us": "100000"},
            5,
        ),
        (
            "3:cpu,cpuacct:/docker/1\n",
            {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"},
            2,
        ),
    ],
)
def test_a_control_groups_quota_limits_the_cores(tmp_path, monkeypatch, group, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    root = fake_root(tmp_path, group, **files)
    assert core_quota(root) == cores
    assert available_cores(root) == (cores or 64)


def test_cores_are_those_the_scheduler_allows_or_all_where_the_system_cannot_say(tmp_path, monkeypatch):
    root = fake_root(tmp_path, "0::/\n", **{"cpu.max": "800000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert available_cores(root) == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores(root) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path / "nothing") == 1
    assert threads_per_job({"n_jobs": 2}) == 1  # a job of a sweep runs there too


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (6, 6), (64, 8)])
def test_not_all_cores_of_a_large_machine_are_taken(monkeypatch, cores, threads):
    monkeypatch.setattr(facts_of, "available_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (default_threads(), threads_in_use()) == (threads, threads)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (default_threads(), threads_in_use()) == (threads, 3)


def test_a_machine_is_busy_where_its_load_takes_the_cores(monkeypatch):
    monkeypatch.setattr(facts_of, "available_cores", lambda: 4)
    for load, busy in ((3.9, False), (4.0, True)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert is_busy() is busy
    monkeypatch.delattr(os, "getloadavg")
    assert is_busy() is False
