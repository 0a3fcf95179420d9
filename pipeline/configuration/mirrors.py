"""Groups whose options are another group's, any number of them at once, each under its own name.

``runtimes=[onnxruntime,openvino]`` gives ``runtimes.onnxruntime`` what ``backend=onnxruntime`` gives
``backend``, and so on: one file is both, and a new backend is a runtime too. Options that reach beyond their
own package (a preset, ``# @package _global_``) are left out, since they set more than one of several may. A
user's own option is a file of two lines, ``my_conf/runtimes/mine.yaml``: ``defaults:``, and
``- /backend@mine: mine``.
"""

from __future__ import annotations

from importlib import resources

from hydra.core.config_store import ConfigStore

MIRRORS = {"runtimes": "backend"}
"""The group, and the one whose options it has."""


def register_mirrors() -> None:
    """Make the options known to Hydra, beside the files that the groups may have of their own."""
    for group, original in MIRRORS.items():
        for option in mirrored(original):
            node = {"defaults": [{f"/{original}@{option}": option}]}
            ConfigStore.instance().store(group=group, name=option, node=node, provider="pipeline")


def mirrored(original: str) -> list[str]:
    """The options of the group `original` that come with the pipeline and set nothing beside themselves."""
    files = (path for path in (resources.files("conf") / original).iterdir() if path.name.endswith(".yaml"))
    return sorted(
        path.name.removesuffix(".yaml")
        for path in files
        if "@package _global_" not in path.read_text(encoding="utf-8")
    )
