"""Files that are there whole or not at all, and those that may be read: regular ones, not too large."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_readable(file: Path, most: int) -> int:
    """The bytes of a regular file, links followed.

    To open a FIFO is to wait for who writes into it, and a device may have no end: look before opening.

    Raises:
        OSError: there is no such file, it is no regular one, or it has more than `most` bytes.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in KINDS if is_kind(status.st_mode)), "no file")
        raise OSError(f"is {kind}, not a regular file")
    if status.st_size > most:
        raise OSError(f"has {status.st_size:,} bytes: must have at most {most:,}")
    return status.st_size


@contextmanager
def written_atomically(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside `file`; it becomes `file` on success and is removed on failure.

    Creates the folder. Readers and other writers see the old file or the new one, never a part.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
