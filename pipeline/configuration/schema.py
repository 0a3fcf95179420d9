"""The run-level settings, as types. Hydra checks the command line against them at composition.

Components are not listed here: a configuration group is a folder under ``conf/``, and its options carry
their own schema, the dataclass that ``_target_`` names (see `pipeline.configuration.builder`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from pipeline.configuration.mirrors import register_mirrors

MAX_SEED = 2**32 - 1


@dataclass(kw_only=True)
class StoreConfig:
    """Where artifacts are kept.

    Args:
        path: root folder, shared by all runs, relative to the folder the command starts in; or an address
            that fsspec knows, ``s3://bucket/folder``, shared by machines.
        cache: the folder that keeps what comes from an address. Not used where `path` is a folder.
        reuse: take what is there. False computes everything anew, and still stores it.
    """

    path: str = "outputs/store"
    cache: Path = Path("outputs/store")
    reuse: bool = True


@dataclass(kw_only=True)
class SweepConfig:
    """How sweeps go on.

    Args:
        resume: leave out the runs that the same command has finished before.
    """

    resume: bool = True


@dataclass(kw_only=True)
class RunConfig:
    """One run.

    Args:
        seed: 0 .. 2^32-1; part of every artifact's key.
        device: ``cpu``, ``cuda``, ``cuda:1``, … as torch names it.
        threads: OpenMP threads of the numeric libraries; None takes ``OMP_NUM_THREADS`` or the cores that
            the process may use, at most 8, in a sweep that runs jobs at once a job's share of them. Part of
            a training's key, and recorded.
        deterministic: floats are summed on one thread, whatever `threads` says, and by torch's deterministic
            algorithms: the same bytes for any number of threads, in the time of one. Integer kernels keep
            their threads, which change nothing.
        objectives: the metrics that a search gets, in the order of its directions.
        replay: a recorded run's identifier: run it again instead, and compare.
        trust: packages whose code a replayed record may run, beside the pipeline's own, and resolvers that it
            may ask by, as ``oc.env``.
        store: the artifact store.
        sweep: how sweeps go on.
        tracking: where the run is recorded, an option of the group ``tracking``.
        ranks: how several processes become one run; used where ``training.distributed`` wants them.
        stages: the stages by any name, in the order they run; null skips one.
    """

    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    deterministic: bool = False
    objectives: list[str] = field(default_factory=list)
    replay: str | None = None
    trust: list[str] = field(default_factory=list)
    store: StoreConfig = field(default_factory=StoreConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    tracking: Any = None
    ranks: Any = None
    stages: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed={self.seed}: must be 0..{MAX_SEED}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads={self.threads}: must be at least 1, or null for the default")


def register() -> None:
    """Make the schema known to Hydra as ``run_schema``, open to the groups' own keys, and groups' mirrors."""
    node = OmegaConf.structured(RunConfig, flags={"struct": False})
    ConfigStore.instance().store(name="run_schema", node=node, provider="pipeline")
    register_mirrors()
    # conf's launchers and sweeper have the names of their plugins' schemas, and are checked against them
    warnings.filterwarnings(
        "ignore", message=r"\s*'hydra/(launcher|sweeper)/\w+' is validated against ConfigStore"
    )
