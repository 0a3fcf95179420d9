"""Hugging Face datasets from disk, as ``save_to_disk`` writes them: a column of inputs, one of labels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from pipeline.errors import PipelineError, alternatives
from stages.data.files import check_readable
from stages.data.preprocess import MAX_PIXELS, Preprocessing, Side
from stages.data.samples import ChannelLayout, TargetKind
from stages.data.torch_dataset import TorchDataset
from stages.data.usual_names import INPUT_KEYS, LABEL_KEYS


def huggingface(
    *,
    path: Path,
    train: str = "train",
    test: str = "test",
    inputs: str | None = None,
    labels: str | None = None,
    size: Side | None = None,
    resize: Side | None = None,
    crop: Side | None = None,
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = "bilinear",
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    layout: ChannelLayout = "channels_first",
    tokens: bool = False,
    targets: TargetKind = "auto",
    num_classes: int | None = None,
    classes: Path | tuple[Any, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> TorchDataset:
    """Splits `train` and `test` of the dataset in the folder `path`.

    Args:
        path: what ``dataset.save_to_disk(path)`` wrote.
        train: name of the training split.
        test: name of the test split.
        inputs: column of the inputs; None for the one with a usual name.
        labels: column of the labels; None for the one with a usual name.
        size: of images, as all up to `channels`; see `Preprocessing`.
        resize: see `Preprocessing`.
        crop: see `Preprocessing`.
        interpolation: see `Preprocessing`.
        channels: see `Preprocessing`.
        max_pixels: see `Preprocessing`.
        layout: of arrays; see `arranged`.
        tokens: whether the inputs number the rows of an embedding.
        targets: see `as_targets`.
        num_classes: of the network, where neither names nor labels show it.
        classes: names of the classes; None for the dataset's own.
        mean: as `TorchDataset`.
        std: as `TorchDataset`.
    """
    how = Preprocessing(
        size=size,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        channels=channels,
        max_pixels=max_pixels,
    )
    both = {"path": path, "inputs": inputs, "labels": labels, "preprocessing": how}
    return TorchDataset(
        target=HuggingFaceSplit,
        train_args={**both, "split": train},
        test_args={**both, "split": test},
        layout=layout,
        tokens=tokens,
        targets=targets,
        class_count=num_classes,
        class_list=classes,
        mean=mean or (),
        std=std or (),
        name="huggingface",
    )


class HuggingFaceSplit:
    """One split as a torch Dataset of pairs.

    Args:
        path: the folder.
        split: the split's name.
        inputs: column of the inputs, or None for the usual one.
        labels: column of the labels, or None for the usual one.
        preprocessing: of images.
    """

    def __init__(
        self, *, path: Path, split: str, inputs: str | None, labels: str | None, preprocessing: Preprocessing
    ) -> None:
        self._rows = _load(path, split)
        self._where = f"data.path={path}, split '{split}'"
        self._inputs = self._column("inputs", inputs, INPUT_KEYS)
        self._labels = self._column("labels", labels, LABEL_KEYS)
        self._preprocessing = preprocessing
        self._rows = _undecoded(self._rows, self._inputs)
        self.classes: list[str] | None = getattr(self._rows.features[self._labels], "names", None)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        sample = self._rows[row]
        value = sample[self._inputs]
        if isinstance(value, dict) and set(value) == {"bytes", "path"}:
            with Image.open(self._file(value)) as image:  # its header, checked before it is decoded
                return self._preprocessing.apply(image), sample[self._labels]
        if isinstance(value, Image.Image):
            return self._preprocessing.apply(value), sample[self._labels]
        return np.asarray(value), sample[self._labels]

    def _file(self, stored: Mapping[str, Any]) -> io.BytesIO | Path:
        """An image's bytes, or its file, where that may be opened. Raises OSError where it may not."""
        most = self._preprocessing.max_bytes
        if stored["bytes"] is None:
            path = Path(stored["path"])
            check_readable(path, most)
            return path
        if len(stored["bytes"]) > most:
            raise OSError(f"has {len(stored['bytes']):,} bytes: must have at most {most:,}")
        return io.BytesIO(stored["bytes"])

    def _column(self, option: str, name: str | None, usual: Sequence[str]) -> str:
        columns = list(self._rows.column_names)
        found = [column for column in columns if column.lower() in usual] if name is None else [name]
        if len(found) == 1 and found[0] in columns:
            return found[0]
        problem = (
            f"no column '{name}'" if name is not None else f"which column holds the {option} is not clear"
        )
        raise PipelineError(
            f"{self._where}: {problem}; {alternatives(name or usual[0], columns)}.\n"
            f"Remedy: data.{option}=COLUMN."
        )


def _undecoded(rows: Any, column: str) -> Any:
    """The rows with images as they are stored: the library would decode them whatever their size."""
    kind = getattr(import_module("datasets"), "Image", None)
    if kind is None or not isinstance(rows.features[column], kind):
        return rows
    return rows.cast_column(column, kind(decode=False))


def _load(path: Path, split: str) -> Any:
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise PipelineError(
            f"data=huggingface: the package 'datasets' is missing ({error}).\n"
            "Remedy: pip install 'quantization-pipeline[huggingface]'."
        ) from error
    try:
        found = load_from_disk(str(path))
    except Exception as error:  # of a folder from elsewhere, many libraries' own
        raise PipelineError(
            f"data.path={path}: is no dataset on disk ({error}).\n"
            "Remedy: write it where the network is: datasets.load_dataset(NAME).save_to_disk(FOLDER)."
        ) from error
    if not isinstance(found, DatasetDict):
        raise PipelineError(
            f"data.path={path}: is a single split.\n"
            "Remedy: dataset.train_test_split(test_size=0.2, seed=0).save_to_disk(FOLDER)."
        )
    if split not in found:
        raise PipelineError(
            f"data.path={path}: has no split '{split}'; {alternatives(split, found)}.\n"
            "Remedy: data.train=SPLIT data.test=SPLIT."
        )
    return found[split]
