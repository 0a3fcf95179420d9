from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.errors import PipelineError
from stages.data.arrays import Arrays, arrays
from stages.data.base import Data
from stages.data.batches import batches

RNG = np.random.default_rng(0)
FLOATS = RNG.normal(size=(7, 1, 49, 10)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0, 1, 2])


def save(folder: Path, **named: np.ndarray) -> None:
    for name, array in named.items():
        np.save(folder / f"{name}.npy", array)


@pytest.fixture
def build(tmp_path):
    """Four .npy files as a data set; the training inputs and labels unless told otherwise."""

    def make(x=FLOATS, y=LABELS, x_test=None, y_test=None, **settings) -> Arrays:
        save(tmp_path, x=x, y=y, xt=x if x_test is None else x_test, yt=y if y_test is None else y_test)
        names = {"train": "x", "train_labels": "y", "test": "xt", "test_labels": "yt"}
        return arrays(**{key: str(tmp_path / f"{name}.npy") for key, name in names.items()}, **settings)

    return make


def test_arrays_follow_the_protocol(build):
    d = build()
    d.check()
    assert isinstance(d, Data)
    assert d.shape == (1, 49, 10) and d.num_classes == 4 and (d.mean, d.std) == ((), ())
    assert isinstance(d.train().images, np.memmap)
    x, y = next(batches(d.train(), 7, d))
    assert (x.numpy() == FLOATS).all() and y.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    "x",
    [
        RNG.normal(size=(7, 12)),
        RNG.normal(size=(7, 3, 20)).astype(np.float16),
        RNG.integers(0, 30_000, (7, 16)),
        RNG.integers(-5, 5, (7, 2, 3, 4, 5)).astype(np.int8),
        RNG.integers(0, 256, (7, 9)).astype(np.uint8),
        RNG.normal(size=(7, 3)).astype(">f4"),
        np.asfortranarray(RNG.normal(size=(7, 3, 20))),
    ],
)
def test_any_rank_and_type_keeps_its_values(build, x):
    d = build(x=x)
    d.check()
    assert d.shape == x.shape[1:]
    assert (next(batches(d.test(), 7, d))[0].numpy() == x.astype(np.float32)).all()


def test_uint8_of_rank_four_are_images(build):
    pixels = RNG.integers(0, 256, (7, 3, 4, 5)).astype(np.uint8)
    d = build(x=pixels, mean=(0.1, 0.2, 0.3), std=(0.5,))
    d.check()
    expected = (pixels / 255 - np.reshape((0.1, 0.2, 0.3), (3, 1, 1))) / 0.5
    assert next(batches(d.train(), 7, d))[0].numpy() == pytest.approx(expected, abs=1e-6)


def test_a_layout_moves_the_channels(build):
    last = RNG.integers(0, 256, (7, 4, 5, 3)).astype(np.uint8)
    assert build(x=last, layout="channels_last").shape == (3, 4, 5)
    assert (build(x=last, layout="channels_last").train().images == last.transpose(0, 3, 1, 2)).all()
    assert build(x=last[..., 0], layout="no_channels").shape == (1, 4, 5)
    assert build(x=FLOATS[:, 0, 0, 0], layout="no_channels").shape == (1,)


@pytest.mark.parametrize(
    ("y", "dtype", "shape", "outputs"),
    [
        (LABELS.astype(np.uint8), np.int64, (7,), 4),
        (LABELS[:, None], np.int64, (7,), 4),
        (RNG.normal(size=7), np.float32, (7,), 1),
        (RNG.normal(size=(7, 3)), np.float32, (7, 3), 3),
        (RNG.integers(0, 2, (7, 5)), np.float32, (7, 5), 5),
        (RNG.integers(0, 2, (7, 5)).astype(bool), np.float32, (7, 5), 5),
        (np.full((7, 4, 4), 6, np.uint8), np.int64, (7, 4, 4), 7),
    ],
)
def test_labels_become_classes_or_numbers(build, y, dtype, shape, outputs):
    d = build(y=y)
    d.check()
    labels = d.train().labels
    assert labels.dtype == dtype and labels.shape == shape and d.num_classes == outputs
    assert labels.reshape(y.shape) == pytest.approx(y * 1.0)


def test_what_labels_are_can_be_said(build):
    assert build(y=LABELS.astype(float), targets="classes").train().labels.dtype == np.int64
    assert build(targets="numbers").train().labels.dtype == np.float32
    assert build(num_classes=10).num_classes == 10
    named = build(classes=("yes", "no", "up", "down", "left"))
    assert named.num_classes == 5 and named.classes == ("yes", "no", "up", "down", "left")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_one_npz_holds_all(tmp_path, compressed, keys):
    contents = dict(zip(keys, (FLOATS, LABELS, FLOATS[:3], LABELS[:3]), strict=True))
    (np.savez_compressed if compressed else np.savez)(tmp_path / "all.npz", **contents)
    file = str(tmp_path / "all.npz")
    d = arrays(train=file, test=file)
    d.check()
    assert isinstance(d.train().images, np.memmap) is not compressed
    assert (d.train().images == FLOATS).all() and (d.test().images == FLOATS[:3]).all()
    assert d.test().labels.tolist() == LABELS[:3].tolist()


def test_keys_are_named_after_a_colon(tmp_path):
    np.savez(tmp_path / "all.npz", a=FLOATS, b=LABELS, c=np.asfortranarray(FLOATS[:2]), d=LABELS[:2])
    file = tmp_path / "all.npz"
    d = arrays(train=f"{file}:a", train_labels=f"{file}:b", test=f"{file}:c", test_labels=f"{file}:d")
    assert (d.test().images == FLOATS[:2]).all() and len(d.train()) == 7


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.uint8])
def test_safetensors_are_mapped(tmp_path, dtype):
    for split, count in (("train", 7), ("test", 3)):
        contents = {"inputs": (10 * FLOATS[:count]).astype(dtype), "labels": LABELS[:count]}
        save_file(contents, tmp_path / f"{split}.safetensors", metadata={"by": "hand"})
    d = arrays(train=str(tmp_path / "train.safetensors"), test=str(tmp_path / "test.safetensors"))
    d.check()
    assert isinstance(d.train().images, np.memmap)
    assert (d.train().images == (10 * FLOATS).astype(dtype)).all() and d.test().labels.tolist() == [0, 1, 2]


def test_bfloat16_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    halves = torch.from_numpy(FLOATS).to(torch.bfloat16)
    save_torch({"x": halves, "y": torch.from_numpy(LABELS)}, tmp_path / "a.safetensors")
    save(tmp_path, x=FLOATS, y=LABELS)
    test = {"test": str(tmp_path / "x.npy"), "test_labels": str(tmp_path / "y.npy")}
    d = arrays(train=str(tmp_path / "a.safetensors"), **test)
    d.check()
    assert (d.train().images == halves.to(torch.float32).numpy()).all()


def test_the_fingerprint_is_the_contents(build, tmp_path):
    first = build().fingerprint()
    assert build().fingerprint() == first
    assert build(mean=(1.0,)).fingerprint() != first and build(targets="numbers").fingerprint() != first
    assert build(y_test=LABELS[::-1]).fingerprint() != first


def test_nothing_is_unpickled(build, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    rows = np.empty(7, dtype=object)
    rows[:] = [Trap()] * 7
    refusal = r"holds Python objects, which are never loaded(.|\n)*Remedy: save arrays of numbers"
    with pytest.raises(PipelineError, match="data.train=.*x.npy: " + refusal):
        build(x=rows).check()
    np.savez(tmp_path / "trap.npz", x=rows, y=LABELS)
    with pytest.raises(PipelineError, match="data.train=.*trap.npz: " + refusal):
        arrays(
            train=str(tmp_path / "trap.npz"),
            test=str(tmp_path / "xt.npy"),
            test_labels=str(tmp_path / "yt.npy"),
        ).check()
    (tmp_path / "x.npy").write_bytes(pickle.dumps(Trap()))
    names = {key: str(tmp_path / name) for key, name in (("train", "x.npy"), ("train_labels", "y.npy"))}
    with pytest.raises(PipelineError, match="x.npy: " + refusal):
        arrays(**names, test=str(tmp_path / "xt.npy"), test_labels=str(tmp_path / "yt.npy")).check()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": LABELS[:5]}, r"data.train_labels=.*y.npy: 5 labels for 7 inputs"),
        ({"x_test": FLOATS[:, :, :9]}, r"samples are float32 \(N, 1, 49, 10\) and float32 \(N, 1, 9, 10\)"),
        ({"y_test": LABELS * 1.0}, r"labels are int64 \(N\) and float32 \(N\)(.|\n)*data.targets=classes"),
        ({"y": LABELS - 1}, "labels=-1: classes must be 0 or more"),
        ({"y": LABELS * np.nan}, "labels are not all finite"),
        ({"y": LABELS + 0.5, "targets": "classes"}, "labels are no integers, and classes are"),
        ({"num_classes": 3}, r"data.train: label 3 is beyond the 3 classes, 0\.\.2"),
        ({"y_test": LABELS + 9, "classes": tuple("abcd")}, "data.test: label 12 is beyond the 4 classes"),
        (
            {"x": np.where(FLOATS[3, 0, 0, 0] == FLOATS, np.inf, FLOATS)},
            "data.train: sample 3 holds NaN or inf",
        ),
        (
            {"x": np.full((7, 4), -1e39)},
            "data.train: sample 0 holds NaN or infinity, or what is one as float32",
        ),
        ({"y": LABELS * 1e39}, "labels are not all finite as float32"),
        ({"x": np.full((7, 4), 2**24 + 1)}, r"holds integers beyond ±16,777,216"),
        ({"x": np.full((7, 4), -(2**63))}, r"holds integers beyond ±16,777,216"),
        ({"x": np.full(7, 1.0)}, r"inputs are float64 \(7,\), no numbers \(N, …\)"),
        ({"x": np.full((7, 2), "a")}, r"inputs are <U1 \(7, 2\), no numbers"),
        ({"x": FLOATS[:0], "y": LABELS[:0]}, "data.train: holds no samples"),
        (
            {"mean": (1.0, 2.0)},
            r"data.mean=\[1.0, 2.0\]: must be 1 numbers, one a channel; or one number for all",
        ),
        ({"x": FLOATS, "tokens": True}, "holds float32, and tokens are integers"),
        ({"x": np.full((7, 4), -1), "tokens": True}, "holds token -1"),
        (
            {"x": np.ones((7, 4), int), "tokens": True, "mean": (1.0,)},
            "data.tokens=true: mean and std would make other tokens",
        ),
        ({"std": (0.0,)}, r"data.std=\[0.0\]: must be positive"),
        ({"std": (float("inf"),)}, r"data.std=\[inf\]: must be finite"),
        ({"mean": (float("nan"),)}, r"data.mean=\[nan\]: must be finite"),
    ],
)
def test_what_contradicts_is_refused_before_compute(build, changed, message):
    with pytest.raises(PipelineError, match=message):
        build(**changed).check()


def test_files_and_keys_that_are_not_there_are_named(build, tmp_path):
    save(tmp_path, x=FLOATS, y=LABELS)
    np.savez(tmp_path / "a.npz", x=FLOATS, images=FLOATS, y=LABELS)
    np.savez(tmp_path / "b.npz", first=FLOATS, second=LABELS)
    (tmp_path / "bad.npz").write_bytes(b"PK")
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 20)
    x, y, a, b = (str(tmp_path / name) for name in ("x.npy", "y.npy", "a.npz", "b.npz"))
    for settings, message in (
        ({"train": "gone.npy"}, r"data.train=gone.npy: no such file \(looked in"),
        ({"train": "x.csv"}, r"data.train=x.csv: must be a file of .npy, .npz, .safetensors"),
        ({"train": x}, r"has no labels beside the inputs(.|\n)*Remedy: data.train_labels=FILE"),
        ({"train": a}, r"'x' or 'images'\?; it has images, x, y\.\nRemedy: data.train=.*a.npz:KEY"),
        ({"train": b}, r"which of its arrays\? None is named as x; it has first, second"),
        ({"train": f"{a}:z", "train_labels": y}, r"has no 'z'; valid: images, x, y"),
        ({"train": str(tmp_path / "bad.npz")}, "bad.npz: cannot be read"),
        ({"train": str(tmp_path / "bad.safetensors")}, "bad.safetensors: cannot be read"),
    ):
        with pytest.raises(PipelineError, match=message):
            arrays(**({"test": f"{a}:x"} | settings)).check()


def test_training_on_the_test_split_is_said_explicitly(tmp_path):
    np.savez(tmp_path / "a.npz", x=FLOATS, y=LABELS)
    file = str(tmp_path / "a.npz")
    with pytest.raises(PipelineError, match="so that the network is measured on what it has learned"):
        arrays(train=file, test=file).check()
    arrays(train=f"{file}:x", test=f"{file}:x").check()


def test_the_number_of_classes_is_checked():
    with pytest.raises(ValueError, match="num_classes=0: must be at least 1"):
        arrays(train="a.npy", test="b.npy", num_classes=0)


def test_there_may_be_no_labels(tmp_path):
    path = tmp_path / "tokens.npz"
    np.savez(path, train=np.arange(12).reshape(6, 2), test=np.arange(8).reshape(4, 2))
    data = arrays(train=f"{path}:train", test=f"{path}:test", targets="none", tokens=True)
    data.check()
    assert data.num_classes == 1
    assert data.test().labels.tolist() == [0, 0, 0, 0]
    with pytest.raises(PipelineError, match="None is named as y"):
        arrays(train=f"{path}:train", test=f"{path}:test").check()
