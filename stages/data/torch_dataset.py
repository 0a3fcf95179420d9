"""Any torch Dataset: a callable that gives one, called for training and for test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from stages.data.base import SampleShape, Split
from stages.data.class_names import read_classes
from stages.data.collect import collect
from stages.data.samples import (
    BLOCK,
    ChannelLayout,
    TargetKind,
    arranged,
    as_targets,
    check_constants,
    check_inputs,
    check_splits,
    count_outputs,
)


def torch_dataset(
    *,
    target: Callable[..., Any],
    args: Mapping[str, Any] | None = None,
    train_args: Mapping[str, Any] | None = None,
    test_args: Mapping[str, Any] | None = None,
    layout: ChannelLayout = "channels_first",
    tokens: bool = False,
    targets: TargetKind = "auto",
    num_classes: int | None = None,
    classes: Path | tuple[Any, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> TorchDataset:
    """Name the options as the configuration does; see `TorchDataset`."""
    return TorchDataset(
        target=target,
        train_args={**(args or {}), **(train_args or {})},
        test_args={**(args or {}), **(test_args or {})},
        layout=layout,
        tokens=tokens,
        targets=targets,
        class_count=num_classes,
        class_list=classes,
        mean=mean or (),
        std=std or (),
    )


@dataclass(frozen=True, kw_only=True)
class TorchDataset:
    """What ``target(**train_args)`` and ``target(**test_args)`` give, read once a process into arrays.

    Args:
        target: the callable: a Dataset's class, or a function that returns one.
        train_args: its arguments by name for the training split.
        test_args: for the test split.
        layout: where the inputs' channels are; see `arranged`.
        tokens: whether the inputs number the rows of an embedding; see `Arrays`.
        targets: what labels are; see `as_targets`.
        class_count: of the network; None for the names' number, or the highest label and one.
        class_list: the names of classes, as a list or file; None for the training Dataset's ``classes``.
        mean: of the inputs (uint8 (C, H, W), images: in [0, 1]), one a channel or one for all; empty for 0.
        std: of the inputs, as `mean`; empty for 1.
        name: for records.
    """

    target: Callable[..., Any]
    train_args: Mapping[str, Any]
    test_args: Mapping[str, Any]
    layout: ChannelLayout = "channels_first"
    tokens: bool = False
    targets: TargetKind = "auto"
    class_count: int | None = None
    class_list: Path | tuple[Any, ...] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    name: str = "torch"

    def __post_init__(self) -> None:
        if self.class_count is not None and self.class_count < 1:
            raise ValueError(f"num_classes={self.class_count}: must be at least 1, or null")

    @cached_property
    def num_classes(self) -> int:
        """As given, as the names are, or as the labels of both splits call for."""
        if self.class_count is not None:
            return self.class_count
        return count_outputs(*self._splits) if self.classes is None else len(self.classes)

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """The classes' names; a label is an index into them."""
        if self.class_list is not None:
            return read_classes(self.class_list)
        names = getattr(self._datasets[0], "classes", None)
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            return None
        return tuple(names) or None

    @property
    def shape(self) -> SampleShape:
        """A training input's."""
        return tuple(self._splits[0].images.shape[1:])

    def train(self) -> Split:
        """The training samples."""
        return self._splits[0]

    def test(self) -> Split:
        """The test samples."""
        return self._splits[1]

    def check(self) -> None:
        """Read all samples once, and raise for what a network cannot take."""
        _ = self._checked

    def fingerprint(self) -> str:
        """A sha256 over all samples, and the settings."""
        return self._fingerprint

    @cached_property
    def _checked(self) -> bool:
        check_splits(*self._splits, self.num_classes)
        check_constants(self.mean, self.std, self.shape, tokens=self.tokens)
        for name, split in zip(("train", "test"), self._splits, strict=True):
            check_inputs(split.images, f"data ({name})", tokens=self.tokens)
        return True

    @cached_property
    def _fingerprint(self) -> str:
        settings = (self.name, self.tokens, self.num_classes, self.classes, self.mean, self.std)
        digest = hashlib.sha256(repr(settings).encode())
        for split in self._splits:
            for array in (split.images, split.labels):
                digest.update(repr((array.dtype.str, array.shape)).encode())
                rows = max(1, BLOCK * len(array) // max(1, array.size))
                for start in range(0, len(array), rows):
                    digest.update(array[start : start + rows].tobytes())
        return digest.hexdigest()

    @cached_property
    def _datasets(self) -> tuple[Any, Any]:
        return self._made("train_args", self.train_args), self._made("test_args", self.test_args)

    def _made(self, option: str, arguments: Mapping[str, Any]) -> Any:
        try:
            return self.target(**arguments)
        except PipelineError:
            raise
        except Exception as error:  # the user's own code, or a library's: anything may be raised
            raise self._refusal(
                f"calling it with {_listed(arguments)} failed: {type(error).__name__}: {error}",
                f"data.args={{…}} for both splits, data.{option}={{…}} for one",
            ) from error

    @cached_property
    def _splits(self) -> tuple[Split, Split]:
        train, test = self._datasets
        return self._split("train", train), self._split("test", test)

    def _split(self, name: str, dataset: Any) -> Split:
        def refusal(problem: str, remedy: str) -> PipelineError:
            return self._refusal(f"of data.{name}_args {problem}", remedy)

        inputs, labels = collect(dataset, refusal, f"  reading {name} samples")
        targets = as_targets(labels, self.targets, f"data ({name})")
        return Split(images=arranged(inputs, self.layout), labels=targets)

    def _refusal(self, problem: str, remedy: str) -> PipelineError:
        target = f"{self.target.__module__}.{getattr(self.target, '__qualname__', self.target)}"
        return PipelineError(f"data={self.name} ({target}): {problem}.\nRemedy: {remedy}.")


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "no arguments"
