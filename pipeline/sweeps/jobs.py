"""What the runs of one multirun have in common, and how a repeated command finds what was done before.

A sweep is known by the fingerprint of its command and configuration, a job by that of all that its figures
depend on. The tracker keeps both as tags: the same command again goes on in the same folder, below the same
record, and leaves out the jobs that are recorded as finished.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.environment import available_cores
from pipeline.errors import PipelineError, alternatives
from pipeline.stage import Stage
from pipeline.store.imports import closure, modules_of
from pipeline.store.keys import identity, key_of

ELSEWHERE = ("hydra", "objectives", "replay", "store", "sweep", "tracking")
"""Config keys that say where and how a run is done, not what: no figure depends on them."""

FRAMEWORK = __name__.partition(".")[0]
"""Whose components (tracking) make no figure; what stages import of it counts with them."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep as its jobs see it. Travels to the processes and machines that run them.

    Args:
        fingerprint: of the command and its configuration.
        record: the tracker's identifier of the sweep.
        varies: the groups and settings that it sweeps.
    """

    fingerprint: str
    record: str
    varies: tuple[str, ...] = ()

    def job_name(self, number: int, overrides: Iterable[str], groups: Container[str]) -> str:
        """A job by what it has of its own: ``7 affine mse weight.bits=4``."""
        words = [str(number)]
        for key, _, value in (line.partition("=") for line in overrides):
            if key in self.varies:
                words.append(value if key in groups else f"{key.partition('.')[2] or key}={value}")
        return " ".join(words)


def changed_settings(overrides: Iterable[str], groups: Container[str]) -> list[str]:
    """What a command line sets beside groups' options and what has no part in figures: ``weight.bits=4``."""
    pairs = [(key.lstrip("+"), value) for key, _, value in (line.partition("=") for line in overrides)]
    return [
        f"{key.partition('.')[2] or key}={value}"
        for key, value in pairs
        if key not in groups and key.partition(".")[0] not in ("store", "tracking", "hydra", "threads")
    ]


_current: Sweep | None = None


def current() -> Sweep | None:
    """The sweep that this process runs a job of; None in a single run, or where no tracker keeps sweeps."""
    return _current


def enter(sweep: Sweep | None) -> None:
    """Make `sweep` the current one."""
    global _current  # a process runs one job at a time
    _current = sweep


def sweep_fingerprint(config: DictConfig, overrides: Iterable[str]) -> str:
    """The hash of a sweep's configuration (unresolved), its overrides and the code of its components."""
    settings = _settings(config)
    packages = _packages(settings) - {FRAMEWORK}
    modules = packages.union(*map(modules_of, packages))  # what is swept may take any of them
    return key_of(
        {
            "overrides": [line for line in overrides if _root(line) not in ELSEWHERE],
            "settings": settings,
            "params": _plain(OmegaConf.select(config, "hydra.sweeper.params")),
            "code": closure(modules, packages).code,
        }
    )


def job_fingerprint(config: DictConfig, stages: Sequence[Stage], threads: int) -> str:
    """The hash of a job's resolved configuration, and its stages' components, code, data and threads."""
    return key_of({"settings": _settings(config), "stages": [identity(stage, threads) for stage in stages]})


def objective_values(names: Sequence[str], metrics: Mapping[str, float]) -> float | tuple[float, ...] | None:
    """What an optimizer gets: the metrics named by ``objectives``, in that order; one alone as a number.

    Raises:
        PipelineError: the run has no such metric.
    """
    for name in names:
        if name not in metrics:
            raise PipelineError(
                f"objectives: the run has no metric '{name}'; {alternatives(name, metrics)}; "
                "one that is not finite is left out, and the run's log names it"
            )
    values = tuple(metrics[name] for name in names)
    return values[0] if len(values) == 1 else values or None


def threads_per_job(launcher: Mapping[str, Any], cores: int | None = None) -> int | None:
    """How many threads a job may use so that all jobs of a launcher share the machine; None for all cores.

    The launchers say it in their own ways: joblib has ``n_jobs`` at once (negative: cores + 1 + n_jobs),
    Ray and submitit reserve CPUs for each job.
    """
    cores = cores or available_cores()
    if n_jobs := launcher.get("n_jobs"):
        return max(1, cores // (int(n_jobs) if n_jobs > 0 else max(1, cores + 1 + int(n_jobs))))
    ray = launcher.get("ray")
    reserved = ray.get("remote", {}).get("num_cpus") if ray else launcher.get("cpus_per_task")
    return max(1, int(reserved)) if reserved else None


def _settings(config: DictConfig) -> dict[str, Any]:
    """The configuration without what no figure depends on."""
    container = _plain(config)
    return {str(key): value for key, value in container.items() if key not in ELSEWHERE}


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, enum_to_str=True) if OmegaConf.is_config(node) else node


def _root(override: str) -> str:
    return re.split(r"[.@=/]", override.lstrip("+~"))[0]


def _packages(value: Any) -> set[str]:
    """Top-level packages of all ``_target_`` of a configuration."""
    if isinstance(value, list):
        return set().union(*map(_packages, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    target = value.get("_target_")
    found = {target.split(".")[0]} if isinstance(target, str) else set()
    return found.union(*(_packages(item) for item in value.values()))
