"""The processes of one run: ranks 0 .. size − 1, of which rank 0 leads.

Started by ``torchrun``, each of them composes the same configuration. Rank 0 decides what is computed, writes
and records as a run of one process does. The others follow: at each stage they hear from it what to do, take
part in the stages that are computed by all (`pipeline.stage.collective`), read what these consume from the
store, and write nothing.

The framework knows no way of talking to another process. What the configuration has under ``ranks`` does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from pipeline.errors import PipelineError


class RankLostError(PipelineError):
    """Another rank has failed, or has gone; the message says which, and why where that is known."""


class Ranks(Protocol):
    """This process among those of its run. All of them call the same methods in the same order.

    Every method raises `RankLostError` where another rank has ended.
    """

    rank: int
    size: int

    def device(self, given: str) -> str:
        """The device of this rank, where the run's is `given`: ``cuda`` is another GPU for each."""

    def agree(self, value: Any = None) -> Any:
        """Rank 0's value, which is JSON, on every rank; it may take as long as rank 0 likes."""

    def share(self, data: bytes) -> bytes:
        """Rank 0's bytes on every rank."""

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of all ranks, in their order, on rank 0; on the others nothing."""

    def blame(self, error: BaseException) -> BaseException:
        """What has ended this process: `error`, or another rank's failure where `error` comes of that."""


@runtime_checkable
class Joining(Protocol):
    """What the configuration has under ``ranks``: how processes become ranks of one run."""

    @property
    def together(self) -> bool:
        """Whether several processes are wanted."""

    def check(self) -> None:
        """Raise `PipelineError` where this machine has not got the run's device."""

    def join(self) -> AbstractContextManager[Ranks]:
        """Meet the others, and part from them at the end.

        Raises:
            PipelineError: they cannot be met, or not with what this machine has.
        """


class Alone:
    """A run of one process."""

    rank = 0
    size = 1

    def device(self, given: str) -> str:
        """The run's."""
        return given

    def agree(self, value: Any = None) -> Any:
        """The value."""
        return value

    def share(self, data: bytes) -> bytes:
        """The bytes."""
        return data

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes, as the only ones."""
        return [data]

    def blame(self, error: BaseException) -> BaseException:
        """The error."""
        return error
