"""What a disk refuses, in one line: full, read-only, or another user's."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from pipeline.errors import PipelineError

REASONS: Mapping[int, str] = {
    errno.ENOSPC: "the disk is full. Remedy: free some of it, as by python -m pipeline.store prune",
    errno.EDQUOT: "the disk's quota is used up. Remedy: free some, as by python -m pipeline.store prune",
    errno.EFBIG: "the file is larger than this system allows. Remedy: raise the limit (ulimit -f)",
    errno.EROFS: "the disk is read-only. Remedy: other folders by hydra.run.dir=…, store.path=…",
    errno.EACCES: "this user may not write or read there. Remedy: its permissions, or another folder",
    errno.EEXIST: "a file stands where a folder is to be. Remedy: another name, or move the file",
    errno.ENOTDIR: "a file stands where a folder is to be. Remedy: another name, or move the file",
    errno.EISDIR: "a folder stands where a file is to be. Remedy: another name, or move the folder",
    errno.EPERM: "this user may not change it. Remedy: its owner and permissions, or another folder",
}
_OF_A_LIBRARY = re.compile(r"os error (\d+)")
"""How libraries in Rust, as safetensors, name the system's error."""


@contextmanager
def said_plainly() -> Iterator[None]:
    """Turn what a disk refuses into a `PipelineError` that says so; what was stored before stays."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        reason = refusal_of(error)
        if reason is None:
            raise
        raise PipelineError(f"{reason}. Finished stages are stored") from error


def refusal_of(error: BaseException) -> str | None:
    """What the disk refused, of which `error` or one that it came from tells; None for any other error."""
    seen: BaseException | None = error
    while seen is not None:
        number = seen.errno if isinstance(seen, OSError) else None
        if found := _OF_A_LIBRARY.search(str(seen)):
            with suppress(ValueError):
                number = int(found[1])
        if number is not None and number in REASONS:
            name = getattr(seen, "filename", None)
            return f"{name}: {REASONS[number]}" if name else REASONS[number]
        seen = seen.__cause__ or seen.__context__
    return None
