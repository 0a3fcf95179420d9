"""What Hydra finds wrong with a command line, in words of the configuration: the key, and what there is."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from pipeline.configuration.bounds import named_folders
from pipeline.configuration.builder import TRUSTED
from pipeline.configuration.targets import TargetError, locate
from pipeline.errors import PipelineError, alternatives
from pipeline.place import CONF


def explained(error: HydraException | OmegaConfBaseException, arguments: Sequence[str]) -> str:
    """Say what is wrong in a line or a few, without a trace.

    Args:
        error: of composing the configuration, or of a run, whose own words stay as they are.
        arguments: of the command line: the folders in which options lie.
    """
    match error:
        case PipelineError():
            return str(error)
        case MissingConfigException(missing_cfg_file=str(missing)):
            return _no_option(missing, arguments)
        case OverrideParseException():
            return f"{error.override}: not read ({error.message.splitlines()[0]}). Remedy: give KEY=VALUE"
    wrong = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    if isinstance(wrong, ConfigAttributeError | ConfigKeyError):
        return _no_key(wrong)
    if isinstance(wrong, OmegaConfBaseException):
        path = f"{wrong.full_key}: " if wrong.full_key else ""
        return f"{path}{str(wrong).splitlines()[0]}"
    return str(error)


def of_plugin(error: Exception) -> str | None:
    """Say what a sweeper or launcher refuses by a ValueError, as of a search; None for all other errors."""
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    last = max((i for i, file in enumerate(frames) if "hydra_plugins" in file.parts), default=None)
    ours = {CONF.parent / package for package in TRUSTED}
    if last is None or not isinstance(error, ValueError):
        return None
    if any(ours.intersection(file.parents) for file in frames[last:]):  # of a job that it started
        return None
    name = next(part for part in reversed(frames[last].parts) if part.startswith("hydra_"))
    reason = " ".join(str(error).split())
    return f"hydra.sweeper: {name} refuses it ({reason}). Remedy: conf/README.md has its settings"


def trace(error: Exception) -> str:
    """Give the stack of what nobody foresaw, without Hydra's own calls."""
    told = traceback.TracebackException.from_exception(error)
    own = [frame for frame in told.stack if Path(hydra.__file__).parent not in Path(frame.filename).parents]
    told.stack = traceback.StackSummary.from_list(own)
    return "".join(told.format())


def _no_option(missing: str, arguments: Sequence[str]) -> str:
    missing = missing.removesuffix(".yaml")
    keys = {argument.lstrip("+").partition("=")[0] for argument in arguments}
    # an option may lie in folders below its group, as experiment=low_bits/w4a4 does
    group = next((key for key in sorted(keys) if missing.startswith(f"{key}/")), missing.rpartition("/")[0])
    name = missing.removeprefix(f"{group}/")
    if not group:
        return f"--config-name {name}: no such configuration; {alternatives(name, _options('', arguments))}"
    return f"{group}={name}: no such option; {alternatives(name, set(_options(group, arguments)))}"


def _options(group: str, arguments: Sequence[str]) -> Iterator[str]:
    """The names in a group, of files and of plugins' schemas."""
    for folder in (CONF, *named_folders(arguments)):
        paths = (folder / group).rglob("*.yaml") if group else folder.glob("*.yaml")
        yield from (path.relative_to(folder / group).as_posix().removesuffix(".yaml") for path in paths)
    node: Any = ConfigStore.instance().repo if group else {}
    for part in group.split("/"):
        node = node.get(part, {}) if isinstance(node, dict) else {}
    yield from (str(name).removesuffix(".yaml") for name in node if str(name).endswith(".yaml"))


def _no_key(error: ConfigAttributeError | ConfigKeyError) -> str:
    parent, key, path = error.parent_node, str(error.key), str(error.full_key or error.key)
    if not isinstance(parent, DictConfig):
        return str(error).splitlines()[0]
    written, taken = {str(name) for name in parent}, set(_arguments(parent.get("_target_")))
    written.discard("_target_")
    if key in taken:
        return f"{path}: has its default, and is not written in this option. Remedy: +{path}=… sets it"
    if below := list(islice(_below(parent, key, path.removesuffix(key)), 5)):
        return f"{path}: no such setting; there is {', '.join(below)}"
    return f"{path}: no such setting; {alternatives(key, written | taken)}"


def _below(node: DictConfig, key: str, prefix: str) -> Iterator[str]:
    """Paths below `node` that end in `key`."""
    for name in map(str, node):
        if OmegaConf.is_interpolation(node, name) or OmegaConf.is_missing(node, name):
            continue
        if isinstance(child := node[name], DictConfig) and name != "hydra":
            if key in child:
                yield f"{prefix}{name}.{key}"
            yield from _below(child, key, f"{prefix}{name}.")


def _arguments(target: object) -> Iterator[str]:
    """What a component of the pipeline's own takes; the user's code is not imported for a message."""
    if str(target).partition(".")[0] not in TRUSTED:
        return
    try:
        yield from inspect.signature(locate(target)).parameters
    except (TargetError, ValueError):
        return
