from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from pipeline.errors import PipelineError
from stages.data import collect
from stages.data.base import Data
from stages.data.batches import batches
from stages.data.torch_dataset import TorchDataset, torch_dataset

INPUTS = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 1, 49, 10)).astype(np.float32))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


class Sounds(Dataset):
    classes = ("yes", "no", "up")

    def __init__(self, count: int = 6, label=int) -> None:
        self.count, self.label = count, label

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int):
        return INPUTS[row], self.label(LABELS[row])


class Listed(Dataset):
    def __init__(self, items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int):
        item = self.items[row]
        return item() if callable(item) else item


def of(items, **settings) -> TorchDataset:
    return torch_dataset(target=Listed, args={"items": items}, **settings)


def test_any_dataset_follows_the_protocol():
    d = torch_dataset(target=Sounds, test_args={"count": 3})
    d.check()
    assert isinstance(d, Data)
    assert (len(d.train()), len(d.test()), d.num_classes, d.shape) == (6, 3, 3, (1, 49, 10))
    assert d.classes == ("yes", "no", "up")
    x, y = next(batches(d.train(), 6, d))
    assert torch.equal(x, INPUTS) and torch.equal(y, LABELS)


def test_a_function_may_return_it():
    def make(flip: bool) -> TensorDataset:
        return TensorDataset(INPUTS.flip(0) if flip else INPUTS, LABELS, LABELS)  # the third is passed over

    d = torch_dataset(target=make, args={"flip": False}, test_args={"flip": True})
    assert (d.test().images[::-1] == d.train().images).all() and d.classes is None and d.num_classes == 3


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (Image.new("L", (5, 4), 7), np.uint8, (1, 4, 5)),
        (Image.new("RGB", (5, 4), (7, 7, 7)), np.uint8, (3, 4, 5)),
        (Image.new("RGBA", (5, 4), (7, 7, 7, 9)), np.uint8, (3, 4, 5)),
        (np.full((4,), 7.0), np.float32, (4,)),
        (torch.full((2, 3), 7, dtype=torch.int32), np.int32, (2, 3)),
        (torch.full((2, 3), 7, dtype=torch.bfloat16), np.float32, (2, 3)),
        ([7, 7, 7], np.int64, (3,)),
    ],
)
def test_a_sample_may_be_an_image_array_tensor_or_list(value, dtype, shape):
    d = of([(value, 0), (value, 1)])
    d.check()
    images = d.train().images
    assert images.dtype == dtype and images.shape == (2, *shape) and (images == 7).all()


def test_labels_may_be_targets():
    d = of([(np.ones(3), np.array([0.5, 2.0])), (np.ones(3), np.array([1.0, 0.0]))])
    assert d.num_classes == 2 and d.train().labels.dtype == np.float32
    assert of([(np.ones(3), 0.5)]).num_classes == 1
    assert of([(np.ones((1, 2, 2)), np.full((2, 2), 4))]).train().labels.shape == (1, 2, 2)


def test_the_fingerprint_is_the_samples():
    first = torch_dataset(target=Sounds).fingerprint()
    assert torch_dataset(target=Sounds).fingerprint() == first
    assert torch_dataset(target=Sounds, test_args={"count": 5}).fingerprint() != first
    assert torch_dataset(target=Sounds, mean=(0.5,)).fingerprint() != first


def test_large_arrays_lie_in_a_file(monkeypatch):
    monkeypatch.setattr(collect, "IN_MEMORY", 100)
    d = torch_dataset(target=Sounds)
    assert isinstance(d.train().images, np.memmap) and (d.train().images == INPUTS.numpy()).all()
    monkeypatch.setattr(collect.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(PipelineError, match=r"its arrays need 0.0 GiB in .*\nRemedy: TMPDIR=…"):
        torch_dataset(target=Sounds).check()


class Endless(IterableDataset):
    def __iter__(self):
        yield INPUTS[0], 0


def broken():
    raise KeyError("no such wave file")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (of([]), "data=torch .*Listed.*: of data.train_args holds no samples"),
        (of([(object(), 0)]), "sample 0 has a object as its input, no array of numbers"),
        (of([np.ones(3)]), r"sample 0 is a ndarray\.\nRemedy: a Dataset whose samples are pairs"),
        (of([{"audio": np.ones(3), "label": 0}]), "sample 0 is a dict of audio, label"),
        (of([(np.ones(3), "cat")]), "sample 0 has a str as its label, no array of numbers"),
        (
            of([(np.ones(3), 0), (np.ones(4), 0)]),
            r"sample 1 has inputs of float32 \(4,\), sample 0 of .* \(3,\)",
        ),
        (of([(np.ones(3, np.uint8), 0), (np.ones(3), 0)]), "sample 1 has inputs of float32"),
        (of([(np.ones(3), 0), broken]), r"reading sample 1 failed: KeyError: 'no such wave file'"),
        (of([(np.array([1.0, np.nan]), 0)]), r"data \(train\): sample 0 holds NaN or infinity"),
        (of([lambda: (np.random.default_rng().normal(size=3), 0)]), "sample 0 is another one each time"),
        (of([(np.ones(3), -1)]), "labels=-1: classes must be 0 or more"),
        (of([(np.ones(3), 5)], num_classes=3), r"label 5 is beyond the 3 classes, 0\.\.2"),
        (torch_dataset(target=Endless), "gives a Endless, which has no length"),
        (torch_dataset(target=Sounds, args={"size": 3}), "calling it with size=3 failed: TypeError"),
    ],
)
def test_what_is_no_data_set_is_refused_before_compute(data, message):
    with pytest.raises(PipelineError, match=message):
        data.check()
