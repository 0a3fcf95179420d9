"""BLAS on one thread while programs run, whoever runs one meanwhile.

The number of BLAS's threads belongs to the process. Two calls that each set and restore it would restore each
other's: so the first sets it, and the last restores what was before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any


class _Calls:
    """How many calls are within `one_blas_thread`, and what the last of them restores."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.restored = ExitStack()

    def begin(self) -> None:
        with self.lock:
            if self.count == 0 and (libraries := _libraries()) is not None:
                self.restored.enter_context(libraries.limit(limits=1, user_api="blas"))
            self.count += 1

    def end(self) -> None:
        with self.lock:
            self.count -= 1
            if self.count == 0:
                self.restored.close()

    def forked(self) -> None:
        """In the child of a fork, which has no thread but one: whoever was within is not here to restore."""
        self.lock = threading.Lock()


_CALLS = _Calls()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CALLS.forked)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Products of blocks are too small to share: BLAS's threads would mostly wait for each other."""
    _CALLS.begin()
    try:
        yield
    finally:
        _CALLS.end()


@cache
def _libraries() -> Any:
    """The thread pools of the libraries that are loaded; None where threadpoolctl is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
