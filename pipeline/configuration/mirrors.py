"""Options of groups that follow from other files, so that nobody lists them.

``runtimes=[onnxruntime,openvino]`` gives ``runtimes.onnxruntime`` what ``backend=onnxruntime`` gives
``backend``, and so on: one file is both, and a new backend is a runtime too. Options that reach beyond their
own package (a preset, ``# @package _global_``) are left out, since they set more than one of several may. A
user's own option is a file of two lines, ``my_conf/runtimes/mine.yaml``: ``defaults:``, and
``- /backend@mine: mine``.

``export=[all]`` and ``runtimes=[all]`` are all that there are, variants in files of ``runtimes`` among them,
but for the backends of our own kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore

from pipeline.place import CONF

OWN = frozenset({"native", "onednn", "reference"})
"""Backends that run our integers; the others are runtimes to compare with them."""


def register_mirrors() -> None:
    """Make the options known to Hydra, beside the files of their groups."""
    backends = _options("backend")
    for name in backends:
        _store("runtimes", name, [{f"/backend@{name}": name}])
    mirrored = [{f"/backend@{name}": name} for name in backends if name not in OWN]
    _store("runtimes", "all", [*mirrored, *_options("runtimes")])
    _store("export", "all", _options("export"))


def _store(group: str, name: str, defaults: Sequence[str | dict[str, str]]) -> None:
    ConfigStore.instance().store(group=group, name=name, node={"defaults": [*defaults]}, provider="pipeline")


def _options(group: str) -> list[str]:
    """Those that come with the pipeline and set nothing beside themselves."""
    files = (path for path in (CONF / group).iterdir() if path.name.endswith(".yaml"))
    return sorted(
        path.name.removesuffix(".yaml")
        for path in files
        if "@package _global_" not in path.read_text(encoding="utf-8")
    )
