"""Follows a multirun from Hydra's side: checks its choices, keeps its record, and its memory small."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.configuration.builder import Builder
from pipeline.configuration.folders import check_run_folder, check_working_folder
from pipeline.configuration.refusals import explained
from pipeline.configuration.schema import register
from pipeline.disk import said_plainly
from pipeline.errors import PipelineError
from pipeline.run_folder import occupy
from pipeline.sweeps.jobs import Sweep, enter, sweep_fingerprint
from pipeline.tracking.base import SweepTracking


class SweepCallback(Callback):
    """Hydra's hooks. Pickled into the jobs' processes, with the sweep that it has opened.

    Hydra turns an exception of a hook into a warning; what has to stop the sweep exits instead.
    """

    def __init__(self) -> None:
        self._sweep: Sweep | None = None
        self._tracking: SweepTracking | None = None
        self.failed = 0
        """Jobs that failed, once the sweep has ended."""
        self.unrecorded = False
        """Whether the sweep's own record could not be closed."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in a job's process, which composes its configuration itself."""
        register()
        self.__dict__.update(state)

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a run that would write to the wrong folder, before it has one, and make it the run's own."""
        try:
            check_working_folder(config.hydra.job.chdir)
            with said_plainly():
                check_run_folder(config, Path(config.hydra.run.dir))
                occupy(Path(config.hydra.run.dir))
        except PipelineError as refusal:
            print(refusal, file=sys.stderr)
            sys.exit(1)
        except OmegaConfBaseException:
            pass  # what only a run's own process can resolve is checked there

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse what some job could not compose, and open the sweep's record."""
        global _launched  # a process launches one
        try:
            check_working_folder(config.hydra.job.chdir)
            overrides = _overrides(config)
            _check_choices(config, overrides)
            with said_plainly():
                self._open(config, overrides)
                Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        except (PipelineError, HydraException, OmegaConfBaseException) as refusal:
            print(explained(refusal, sys.argv[1:]), file=sys.stderr)
            sys.exit(1)
        shutil.rmtree(_failures(config), ignore_errors=True)
        _launched = self

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Close the record."""
        self.failed = len(list(_failures(config).glob("*")))
        self.close(PipelineError(f"failed jobs: {self.failed}; {_WHY}") if self.failed else None)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Tell the job, in its own process, what sweep it belongs to."""
        enter(self._sweep)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Let go of the job's configuration, which Hydra would keep for each until the sweep ends.

        A failed job of a grid is noted, and the others go on; Hydra would stop after its batch.
        """
        enter(None)
        job_return.cfg = job_return.hydra_cfg = None
        grid = str(config.hydra.sweeper.get("_target_", "")).endswith(".BasicSweeper")
        if grid and config.hydra.mode is RunMode.MULTIRUN and job_return.status is JobStatus.FAILED:
            _note_failure(config, job_return)

    def close(self, error: BaseException | None = None) -> None:
        """Close the record, once; one that cannot be closed counts as a failure, and says why."""
        tracking, self._tracking = self._tracking, None
        if tracking is not None and self._sweep is not None:
            try:
                tracking.close_sweep(self._sweep.record, error)
            except PipelineError as refusal:
                print(refusal, file=sys.stderr)
                self.unrecorded = True

    def _open(self, config: DictConfig, overrides: list[Override]) -> None:
        builder = Builder(config)
        tracking = builder.build("tracking")
        builder.raise_problems()
        if not isinstance(tracking, SweepTracking):
            return
        lines = [str(override.input_line) for override in overrides]
        choices = {str(k): v for k, v in config.hydra.runtime.choices.items()}
        tags = {
            **{k: str(v) for k, v in choices.items() if "/" not in k and "@" not in k},
            **{o.key_or_group: _value(o) for o in overrides if o.is_sweep_override()},
            "fingerprint": sweep_fingerprint(config, lines),
            "overrides": " ".join(lines),
            "sweep": str(config.hydra.sweep.dir),
        }
        record = tracking.open_sweep(tags, resume=config.sweep.resume)
        if record is None:
            return
        varies = tuple(str(o.input_line).partition("=")[0] for o in overrides if o.is_sweep_override())
        self._sweep = Sweep(fingerprint=tags["fingerprint"], record=record.run_id, varies=varies)
        self._tracking = tracking
        _go_on_in(config, record.tags.get("sweep", ""))


def abandon(error: BaseException) -> None:
    """Close the record of the sweep that this process launched, if it is still open."""
    if _launched is not None:
        failed = isinstance(error, SystemExit) and error.code == 1
        _launched.close(PipelineError(f"a job failed; {_WHY}") if failed else error)


def exit_code() -> int:
    """1 where jobs of the sweep that this process launched failed, or its record did."""
    if _launched is None:
        return 0
    if _launched.failed:
        print(f"failed jobs: {_launched.failed}; the same command tries them again", file=sys.stderr)
    return int(_launched.failed > 0 or _launched.unrecorded)


_WHY = "their own records say why"
_launched: SweepCallback | None = None


def _failures(config: DictConfig) -> Path:
    """A file for each failed job, by its number: jobs may run in other processes."""
    return Path(config.hydra.sweep.dir) / ".failed"


def _note_failure(config: DictConfig, job_return: JobReturn) -> None:
    try:
        _ = job_return.return_value  # raises, and says which job it was
    except Exception as error:
        if isinstance(error, PipelineError):
            print(error, file=sys.stderr)
        else:
            traceback.print_exception(error)
        folder = _failures(config)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(config.hydra.job.num)).write_text(
            f"{type(error).__name__}: {error}\n", encoding="utf-8"
        )
        job_return.return_value = None
        job_return.status = JobStatus.COMPLETED


def _overrides(config: DictConfig) -> list[Override]:
    """The sweep's overrides, of its configuration and of the command line."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    loader = GlobalHydra.instance().config_loader()
    lines = chain((f"{key}={value}" for key, value in params.items()), config.hydra.overrides.task)
    return OverridesParser.create(config_loader=loader).parse_overrides([str(line) for line in lines])


def _check_choices(config: DictConfig, overrides: list[Override]) -> None:
    """Compose a job with each option of each group, and set each value that is swept, once.

    Hydra's own check composes every combination; a wrong name is found by fewer.
    """
    loader = GlobalHydra.instance().config_loader()
    values = {override.key_or_group: _choices(override) for override in overrides}
    first = {key: lines[0] for key, lines in values.items() if lines}

    def compose(lines: Mapping[str, str]) -> DictConfig:
        return loader.load_sweep_config(config, list(lines.values()))

    base = compose(first)
    for key, lines in values.items():
        is_group = len(lines) > 1 and bool(loader.get_group_options(key))  # reads the folders anew
        for line in lines[1:]:
            if is_group:
                compose(first | {key: line})
            else:
                parsed = OverridesParser.create().parse_override(line)
                OmegaConf.update(base, key, parsed.value())


def _choices(override: Override) -> list[str]:
    """The override, as each of its values makes it; of a continuous range nothing."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        return []
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _value(override: Override) -> str:
    return str(override.input_line).partition("=")[2]


def _go_on_in(config: DictConfig, folder: str) -> None:
    """Write to the folder of an earlier, interrupted try, unless the command names one."""
    named = any(str(line).startswith("hydra.sweep.dir=") for line in config.hydra.overrides.hydra)
    if named or folder == str(config.hydra.sweep.dir) or not Path(folder).is_dir():
        return
    config.hydra.sweep.dir = folder
    # jobs compose anew, from the overrides
    config.hydra.overrides.hydra.append("hydra.sweep.dir='{}'".format(folder.replace("'", "\\'")))
