"""What a disk refuses is one line, whichever library it refused it to."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.disk import refusal_of, said_plainly
from pipeline.errors import PipelineError

ROOT = Path(__file__).parents[2]


def caused(by: BaseException) -> BaseException:
    try:
        raise RuntimeError("wrapped") from by
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: the disk is full. Remedy: "),
        (OSError(errno.EROFS, "Read-only file system", "c"), "c: the disk is read-only. Remedy: "),
        (PermissionError(errno.EACCES, "Permission denied", "d"), "d: this user may not write or read there"),
        (
            FileExistsError(errno.EEXIST, "File exists", "e"),
            "e: a file stands where a folder is to be. Remedy",
        ),
        (Exception("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (caused(OSError(errno.EDQUOT, "Quota exceeded")), "the disk's quota is used up"),
    ],
)
def test_the_reason_and_a_remedy_are_told(error, text):
    with pytest.raises(PipelineError) as refusal, said_plainly():
        raise error
    assert str(refusal.value).startswith(text) and str(refusal.value).endswith("Finished stages are stored")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "error", [ValueError("os error"), FileNotFoundError(errno.ENOENT, "none", "x"), KeyError()]
)
def test_other_errors_stay_what_they_are(error):
    assert refusal_of(error) is None
    with pytest.raises(type(error)), said_plainly():
        raise error


def limited(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """A run whose files may have at most 200 KB: a disk that takes no more, for a process without rights."""
    script = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "sys.argv = ['pipeline', *sys.argv[1:]]\n"
        "runpy.run_module('pipeline', run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, "tracking=none", "stages.speed=null", *overrides],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_a_run_that_cannot_write_says_so_and_keeps_what_it_has(tmp_path):
    quick = ("training.float.epochs=1", "calibration.samples=64")
    refused = limited(tmp_path, *quick)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "file is larger than this system allows" in refused.stderr
    stored = {
        path.name for path in (tmp_path / "outputs" / "store").iterdir() if not path.name.startswith(".")
    }
    assert "trained_model" in stored
