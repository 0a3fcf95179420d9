"""How a process becomes a rank of its run, and when it is refused.

Hydra gives every process a folder of the moment; a rank that follows writes nothing, and gets one that is
gone at its end.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.environment import launched
from pipeline.errors import ConfigError, worded
from pipeline.ranks import Alone, Joining, RankLostError, Ranks

GRACE = 20.0
"""Seconds in which the launcher ends a process because another one has failed."""


@contextmanager
def joined(joining: object) -> Iterator[Ranks]:
    """The ranks of a run, by what its configuration has under ``ranks``.

    Raises:
        ConfigError: several processes are wanted and there is one, or they were started and are not wanted.
    """
    together = isinstance(joining, Joining) and joining.together
    place = launched()
    if place is not None and place.size > 1 and not together:
        raise ConfigError(
            f"training.distributed=null: {place.size} processes were started together (WORLD_SIZE), and each "
            f"would do the whole run. Remedy: make them one run, {command(place.size)}; or start one without "
            "torchrun"
        )
    if together and place is None:
        raise ConfigError(
            "training.distributed=ddp: there is one process, and nobody started others beside it. Remedy: "
            f"{command(2)}; or training.distributed=null"
        )
    if isinstance(joining, Joining):
        joining.check()
    if not isinstance(joining, Joining) or not together:
        yield Alone()
        return
    with joining.join() as ranks:
        yield ranks


def command(size: int) -> str:
    """How `size` processes of this machine are started as one run."""
    return f"torchrun --nproc-per-node={size} -m pipeline training.distributed=ddp …"


def check_no_sweep(several_jobs: bool) -> None:
    """Raise `ConfigError` where several processes would each run all jobs of a sweep."""
    place = launched()
    if several_jobs and place is not None and place.size > 1:
        raise ConfigError(
            f"-m under torchrun: each of the {place.size} processes would launch the whole sweep. Remedy: a "
            "torchrun for each job, without -m; or the sweep without torchrun, whose launcher "
            "(hydra/launcher=joblib, ray or submitit_slurm) runs jobs at once"
        )


def follows() -> bool:
    """Whether this process is one of several, and not the first."""
    place = launched()
    return place is not None and place.rank > 0


@contextmanager
def arguments_of_rank(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The command line as this process takes it: one that follows has a passing folder for its run."""
    if not follows():
        yield list(arguments)
        return
    with tempfile.TemporaryDirectory(prefix="rank-") as folder:
        kept = [each for each in arguments if not each.startswith("hydra.run.dir=")]
        yield [*kept, f"hydra.run.dir={folder}", "hydra.output_subdir=null"]


def say_of_rank(error: BaseException) -> None:
    """Say why a process that follows ends: what rank 0 says as well, it leaves to rank 0.

    What is refused before the ranks have met is refused by all of them alike; the launcher ends those that
    wait here when rank 0 has failed.
    """
    place = launched()
    rank = 0 if place is None else place.rank
    if isinstance(error, RankLostError):
        return
    if isinstance(error, ConfigError):
        time.sleep(GRACE)
    print(f"rank {rank}: {worded(error)}", file=sys.stderr, flush=True)
