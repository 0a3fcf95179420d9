from __future__ import annotations

import platform
import subprocess

from pipeline.environment import environment

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
