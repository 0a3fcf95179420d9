"""``python -m pipeline [overrides]``, or ``quantize``: compose the configuration, check it, run its stages.

``--help`` lists the configuration groups, ``-m`` sweeps, ``--config-dir DIR`` adds your own options.
"""

from __future__ import annotations

import signal
import sys

import hydra
from omegaconf import DictConfig

from pipeline.configuration.bounds import check_folders
from pipeline.configuration.overrides import check_overrides
from pipeline.configuration.schema import register
from pipeline.errors import ConfigError
from pipeline.place import CONF, check_place, see_the_users_folder


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Run what `cfg` describes; returns the values of its ``objectives``, for a search."""
    # these load numpy and rich, which --help does without
    from pipeline.disk import said_plainly
    from pipeline.session import execute
    from pipeline.sweeps.jobs import objective_values
    from pipeline.sweeps.replay import replay

    with said_plainly():
        if cfg.replay is not None:
            replay(cfg)
            return None
        return objective_values(cfg.objectives, execute(cfg))


def command() -> int:
    """Run what the command line says. Returns the exit status."""
    # a terminated run unwinds like an interrupted one, and is recorded as killed
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        check_place()
        register()
        check_overrides(sys.argv[1:])
        check_folders(sys.argv[1:])
        main()
    except ConfigError as error:  # Hydra prints those that are raised within main
        print(error, file=sys.stderr)
        return 1
    except BaseException as error:
        from pipeline.sweeps.callback import abandon

        abandon(error)
        if not isinstance(error, KeyboardInterrupt):
            raise
        print(
            "interrupted; finished stages are stored, and the same command goes on from there",
            file=sys.stderr,
        )
        return 128 + signal.SIGINT
    from pipeline.sweeps.callback import exit_code

    return exit_code()


def script() -> int:
    """Run the console script ``quantize``: as `command`, with modules of the present folder importable."""
    see_the_users_folder()
    return command()


if __name__ == "__main__":
    sys.exit(command())
