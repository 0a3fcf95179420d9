"""``python -m pipeline [overrides]``: compose the configuration, check it, run its stages.

``--help`` lists the configuration groups, ``-m`` sweeps, ``--config-dir DIR`` adds your own options.
"""

from __future__ import annotations

import signal
import sys

import hydra
from omegaconf import DictConfig

from pipeline.schema import register


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Run what `cfg` describes."""
    from pipeline.session import execute  # loads numpy and rich, which --help does without

    execute(cfg)


if __name__ == "__main__":
    register()
    # a terminated run unwinds like an interrupted one, and is recorded as killed
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        main()
    except KeyboardInterrupt:
        print(
            "interrupted; finished stages are stored, and the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(128 + signal.SIGINT)
