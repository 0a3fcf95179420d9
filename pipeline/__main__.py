"""``python -m pipeline [overrides]``, or ``quantize``: compose the configuration, check it, run its stages.

``--help`` lists the configuration groups, ``-m`` sweeps, ``--config-dir DIR`` adds your own options.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipeline.configuration.arguments import options_first
from pipeline.configuration.bounds import check_folders
from pipeline.configuration.overrides import check_overrides
from pipeline.configuration.refusals import explained, of_plugin, trace
from pipeline.configuration.schema import register
from pipeline.place import CONF, check_place, see_the_users_folder

_TRACES = "HYDRA_FULL_ERROR"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Run what `cfg` describes; returns the values of its ``objectives``, for a search."""
    # these load numpy and rich, which --help does without
    from pipeline.disk import said_plainly
    from pipeline.joining import follows
    from pipeline.session import execute
    from pipeline.sweeps.jobs import objective_values
    from pipeline.sweeps.replay import replay

    with said_plainly(), _said_of_rank():
        if cfg.replay is not None:
            replay(cfg)
            return None
        metrics = execute(cfg)
        return None if follows() else objective_values(cfg.objectives, metrics)


@contextmanager
def _said_of_rank() -> Iterator[None]:
    """End a process that follows in few words, and no traceback: rank 0 says what ended the run."""
    from pipeline.joining import follows, say_of_rank

    try:
        yield
    except Exception as error:
        if not follows():
            raise
        say_of_rank(error)
        sys.exit(1)


def command() -> int:
    """Run what the command line says. Returns the exit status."""
    # a terminated run unwinds like an interrupted one, and is recorded as killed
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    from pipeline.joining import arguments_of_rank, check_no_sweep, follows, say_of_rank

    try:
        check_place()
        register()
        sys.argv[1:] = options_first(sys.argv[1:])
        check_overrides(sys.argv[1:])
        check_folders(sys.argv[1:])
        check_no_sweep(bool({"-m", "--multirun"} & set(sys.argv[1:])))
        with arguments_of_rank(sys.argv[1:]) as sys.argv[1:], _as_raised():
            main()
    except BaseException as error:
        from pipeline.sweeps.callback import abandon

        abandon(error)
        if isinstance(error, HydraException | OmegaConfBaseException) and not _wants_traces():
            if follows():
                say_of_rank(error)
            else:
                print(explained(error, sys.argv[1:]), file=sys.stderr)
            return 1
        if isinstance(error, Exception) and not _wants_traces():
            print(of_plugin(error) or trace(error), file=sys.stderr)
            return 1
        if not isinstance(error, KeyboardInterrupt):
            raise
        if not follows():
            print(
                "interrupted; finished stages are stored, and the same command goes on from there",
                file=sys.stderr,
            )
        return 128 + signal.SIGINT
    from pipeline.sweeps.callback import exit_code

    return exit_code()


def _wants_traces() -> bool:
    return os.environ.get(_TRACES) == "1"


@contextmanager
def _as_raised() -> Iterator[None]:
    """Let Hydra raise what goes wrong, which it would print in its own words, and exit."""
    wanted = os.environ.get(_TRACES)
    os.environ[_TRACES] = "1"
    try:
        yield
    finally:
        if wanted is None:
            del os.environ[_TRACES]
        else:
            os.environ[_TRACES] = wanted


def script() -> int:
    """Run the console script ``quantize``: as `command`, with modules of the present folder importable."""
    see_the_users_folder()
    return command()


if __name__ == "__main__":
    sys.exit(command())
