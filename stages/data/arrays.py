"""A user's own arrays: images, sensor or audio data, features, tokens, with classes or targets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from stages.data.array_files import ArrayFile, split_name
from stages.data.base import SampleShape, Split
from stages.data.class_names import read_classes
from stages.data.samples import (
    ChannelLayout,
    TargetKind,
    arranged,
    as_targets,
    check_constants,
    check_inputs,
    check_splits,
    count_outputs,
)
from stages.data.usual_names import INPUT_KEYS, LABEL_KEYS

ArrayPlace = tuple[ArrayFile, str]
"""A file and the key of an array in it."""


def arrays(
    *,
    train: str,
    test: str,
    train_labels: str | None = None,
    test_labels: str | None = None,
    layout: ChannelLayout = "channels_first",
    tokens: bool = False,
    targets: TargetKind = "auto",
    num_classes: int | None = None,
    classes: Path | tuple[Any, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Arrays:
    """Name the options as the configuration does; on the object, some names are the methods'.

    Relative paths start at the folder the command starts in. See `Arrays` for the rest.
    """
    return Arrays(
        train_inputs=train,
        test_inputs=test,
        train_labels=train_labels,
        test_labels=test_labels,
        layout=layout,
        tokens=tokens,
        targets=targets,
        class_count=num_classes,
        class_list=classes,
        mean=mean or (),
        std=std or (),
    )


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Arrays of numbers in .npy, .npz or .safetensors files, memory-mapped where that can be.

    Inputs are (N, …) of any rank. uint8 (N, C, H, W) are images; all other numbers keep their values. Each
    name is a file or, where it holds several arrays, ``file:key``. Without a key, the usual ones are looked
    for, of the split (``x_train``, ``train_x``) before plain ones (``x``); so are labels, without a name of
    their own, in the file of the inputs.

    Args:
        train_inputs: the training inputs.
        test_inputs: the test inputs.
        train_labels: their labels; None where they lie beside the inputs.
        test_labels: their labels.
        layout: where the inputs' channels are: second; ``channels_last``, (N, …, C); or ``no_channels``,
            (N, H, W), where one is to be added.
        tokens: whether the inputs number the rows of an embedding; networks get them as int64, and no scale
            rounds them.
        targets: ``classes`` are integers; ``numbers`` are floats, of regression or of several labels, 0 or 1.
            ``auto`` goes by the type in the file, and takes integers (N, K) of 0 and 1 for several labels.
            ``none``: there are no labels, as an embedding needs none.
        class_count: of the network, where the labels do not show it; None for the highest label and one.
        class_list: the names of classes, as a list or file; None for none.
        mean: of the inputs (of images: in [0, 1]), one a channel or one for all; empty for 0.
        std: of the inputs, as `mean`; empty for 1.
    """

    name: ClassVar[str] = "arrays"

    train_inputs: str
    test_inputs: str
    train_labels: str | None = None
    test_labels: str | None = None
    layout: ChannelLayout = "channels_first"
    tokens: bool = False
    targets: TargetKind = "auto"
    class_count: int | None = None
    class_list: Path | tuple[Any, ...] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.class_count is not None and self.class_count < 1:
            raise ValueError(f"num_classes={self.class_count}: must be at least 1, or null")

    @cached_property
    def num_classes(self) -> int:
        """As given, as the list names, or as the labels of both splits call for."""
        if self.class_count is not None:
            return self.class_count
        return count_outputs(*self._splits) if self.classes is None else len(self.classes)

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """The classes' names; a label is an index into them."""
        return None if self.class_list is None else read_classes(self.class_list)

    @property
    def shape(self) -> SampleShape:
        """The training inputs' without the first dimension."""
        return tuple(self._splits[0].images.shape[1:])

    def train(self) -> Split:
        """The training arrays."""
        return self._splits[0]

    def test(self) -> Split:
        """The test arrays."""
        return self._splits[1]

    def check(self) -> None:
        """Read all numbers once, and raise for what a network cannot take."""
        _ = self._checked

    def fingerprint(self) -> str:
        """The sha256 of the files, and of the settings."""
        settings = (
            self.layout,
            self.tokens,
            self.targets,
            self.num_classes,
            self.classes,
            self.mean,
            self.std,
        )
        digest = hashlib.sha256(repr((self.name, *settings)).encode())
        for file, key in chain.from_iterable(self._places):
            digest.update(repr((file.fingerprint(), key)).encode())
        return digest.hexdigest()

    @cached_property
    def _checked(self) -> bool:
        check_splits(*self._splits, self.num_classes)
        check_constants(self.mean, self.std, self.shape, tokens=self.tokens)
        for option, split in zip(("data.train", "data.test"), self._splits, strict=True):
            check_inputs(split.images, option, tokens=self.tokens)
        return True

    @cached_property
    def _places(self) -> tuple[tuple[ArrayPlace, ArrayPlace], tuple[ArrayPlace, ArrayPlace]]:
        """Where inputs and labels lie, by split."""
        labelled = self.targets != "none"
        train = _places("train", self.train_inputs, self.train_labels, labelled=labelled)
        test = _places("test", self.test_inputs, self.test_labels, labelled=labelled)
        (file, key), (other, other_key) = train[0], test[0]
        named = split_name(self.train_inputs)[1] and split_name(self.test_inputs)[1]
        if (file.path, key) == (other.path, other_key) and not named:
            raise test[0][0].refusal(
                f"is what data.train is, '{key}', so that the network is measured on what it has learned",
                f"name two arrays of the file, data.train=FILE:KEY data.test=FILE:KEY; it has "
                f"{', '.join(file.keys())}",
            )
        return train, test

    @cached_property
    def _splits(self) -> tuple[Split, Split]:
        train, test = self._places
        return self._split(*train), self._split(*test)

    def _split(self, inputs: ArrayPlace, labels: ArrayPlace) -> Split:
        values, given = (file.read(key) for file, key in (inputs, labels))
        file = inputs[0]
        if values.dtype.kind not in "fiub" or values.ndim < 2 - (self.layout == "no_channels"):
            raise file.refusal(
                f"inputs are {values.dtype} {values.shape}, no numbers (N, …)", "save such an array"
            )
        if given.shape[:1] != values.shape[:1]:
            raise labels[0].refusal(
                f"{given.shape[0] if given.ndim else 'one'} labels for {len(values)} inputs",
                "give one a sample",
            )
        targets = as_targets(given, self.targets, labels[0].option)
        return Split(images=arranged(values, self.layout), labels=targets)


def _places(split: str, inputs: str, labels: str | None, *, labelled: bool) -> tuple[ArrayPlace, ArrayPlace]:
    """Where inputs and labels lie; the inputs stand for labels that there are not."""
    first = _place(f"data.{split}", inputs, split, INPUT_KEYS)
    if not labelled:
        return first, first
    if labels is None and len(first[0].keys()) < 2:
        raise first[0].refusal(
            f"has no labels beside the inputs, and data.{split}_labels is not given",
            f"data.{split}_labels=FILE, of one label a sample",
        )
    name = str(first[0].path) if labels is None else labels
    return first, _place(f"data.{split}_labels", name, split, LABEL_KEYS)


def _place(option: str, name: str, split: str, usual: Sequence[str]) -> ArrayPlace:
    """The file and key that `name` means."""
    path, key = split_name(name)
    file = ArrayFile(path, option)
    keys = file.keys()
    if key or len(keys) == 1:
        return file, key or keys[0]
    of_split = {form for word in usual for form in (f"{word}_{split}", f"{split}_{word}", f"{word}{split}")}
    for words in (of_split, set(usual)):
        found = [each for each in keys if each.lower() in words]
        if len(found) == 1:
            return file, found[0]
        if found:
            break
    problem = (
        f"'{found[0]}' or '{found[1]}'?" if found else f"which of its arrays? None is named as {usual[0]}"
    )
    raise file.refusal(f"{problem}; it has {', '.join(sorted(keys))}", f"{option}={path}:KEY")
