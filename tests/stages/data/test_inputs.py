"""Inputs that a user names become what the program takes, as a run would have made it; the rest is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import PipelineError
from stages.data.batches import normalize
from stages.data.description import Description
from stages.data.inputs import GivenInputs
from stages.data.preprocess import Preprocessing

MEAN, STD = (0.5, 0.25, 0.125), (0.5, 0.25, 2.0)
SHAPE = (3, 6, 5)


def read(inputs: GivenInputs, batch_size: int = 64):
    batches = list(inputs.batches(batch_size))
    places = [str(place) for batch in batches for place in batch.places]
    refused = {str(place): why for batch in batches for place, why in batch.refused.items()}
    return places, np.concatenate([batch.x for batch in batches]), refused


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, *SHAPE), np.uint8)


@pytest.fixture
def folder(tmp_path, pixels):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / ".hidden").mkdir()
    for index, own in enumerate(pixels):
        place = "deep/" if index == 2 else ".hidden/" if index == 3 else ""
        Image.fromarray(own.transpose(1, 2, 0)).save(tmp_path / "in" / f"{place}{index}.png")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def described(**image: object) -> Description:
    return Description(shape=SHAPE, mean=MEAN, std=STD, image={"size": [6, 5], "channels": 3, **image})


def normal(pixels: np.ndarray) -> np.ndarray:
    return normalize(torch.from_numpy(pixels.copy()), MEAN, STD).numpy()


def test_a_folders_images_are_normalized_in_the_order_of_their_paths(folder, pixels):
    inputs = GivenInputs([str(folder)], SHAPE, described())
    places, x, refused = read(inputs, batch_size=2)
    assert places == [str(folder / name) for name in ("0.png", "1.png", "deep/2.png")]
    assert len(inputs) == 3 and inputs.images and inputs.guess is None and not refused
    assert x.dtype == np.float32 and x.tobytes() == normal(pixels[:3]).tobytes()


def test_what_the_description_says_of_images_happens_to_them(folder):
    big = folder / "big.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)).save(big)
    how = Preprocessing(resize=8, crop=(6, 5), interpolation="bicubic")
    said = Description(
        shape=SHAPE, mean=MEAN, std=STD, image={"resize": 8, "crop": [6, 5], "interpolation": "bicubic"}
    )
    _, x, _ = read(GivenInputs([str(big)], SHAPE, said))
    with Image.open(big) as image:
        assert x.tobytes() == normal(how.apply(image)[np.newaxis]).tobytes()


def test_where_nothing_is_said_of_images_a_guess_is_made_and_told(folder):
    inputs = GivenInputs([str(folder / "0.png")], (1, 3, 3), Description(shape=(1, 3, 3)))
    assert inputs.guess == Preprocessing(size=(3, 3), channels=1)
    assert read(inputs)[1].shape == (1, 1, 3, 3)


def test_bytes_are_images_and_other_numbers_keep_their_values(tmp_path, pixels):
    np.save(tmp_path / "bytes.npy", pixels)
    np.save(tmp_path / "floats.npy", pixels.astype(np.float64) / 255)
    np.savez(tmp_path / "all.npz", x=pixels, y=np.arange(4))
    names = [str(tmp_path / name) for name in ("bytes.npy", "floats.npy", "all.npz:x")]
    inputs = GivenInputs(names, SHAPE, described())
    places, x, refused = read(inputs, batch_size=3)
    assert len(inputs) == 12 and not inputs.images and not refused
    assert places[:2] == [f"{names[0]} row 0", f"{names[0]} row 1"]
    assert x[:4].tobytes() == x[8:].tobytes() == normal(pixels).tobytes()
    assert x[4:8] == pytest.approx(normal(pixels), abs=1e-6)


def test_a_single_sample_needs_no_batch(tmp_path, pixels):
    np.save(tmp_path / "one.npy", pixels[0])
    places, x, _ = read(GivenInputs([str(tmp_path / "one.npy")], SHAPE, described()))
    assert places == [str(tmp_path / "one.npy")] and x.tobytes() == normal(pixels[:1]).tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused_and_the_others_stay(tmp_path, bad):
    x = np.zeros((3, 7), np.float32)
    x[1, 2] = bad
    np.save(tmp_path / "x.npy", x)
    places, kept, refused = read(GivenInputs([str(tmp_path / "x.npy")], (7,)))
    assert len(kept) == 2 and [place[-5:] for place in places] == ["row 0", "row 2"]
    assert list(refused.values()) == ["holds NaN or infinity. Remedy: leave it out, or give numbers"]
    assert next(iter(refused)).endswith("x.npy row 1")


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path, folder, pixels):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    whole = folder / "0.png"
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:60])
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "hwc.npy", pixels.transpose(0, 2, 3, 1))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "short.npy").write_bytes(b"\x93NUMPY")
    names = ["bad.jpg", "cut.png", "empty", "nothing.png", "hwc.npy", "text.npy", "objects.npy", "short.npy"]
    given = [str(tmp_path / name) for name in names]
    places, _, refused = read(GivenInputs([*given[:2], str(whole), *given[2:]], SHAPE, described()))
    assert places == [str(whole)]
    texts = (
        "is no image, or one of a format that Pillow does not know",
        "cannot be read (",
        "holds no images (.bmp,",
        "no such file or folder (looked in ",
        "(N, 3, 6, 5), or one sample (3, 6, 5). Remedy: move its channels to the front",
        "no real numbers",
        "Python objects, which are never loaded",
        "cannot be read (",
    )
    assert list(refused) == given
    for text, why in zip(texts, refused.values(), strict=True):
        assert text in why and "\n" not in why


def test_an_image_of_another_size_than_a_network_without_scaling_takes_is_refused(folder):
    Image.new("RGB", (9, 9)).save(folder / "0.png")
    said = Description(shape=SHAPE, image={"channels": 3})
    _, _, refused = read(GivenInputs([str(folder)], SHAPE, said))
    assert "has 9×9 pixels, and the program takes 6×5. Remedy" in refused[str(folder / "0.png")]


def test_images_are_no_features(folder):
    _, x, refused = read(GivenInputs([str(folder / "0.png")], (640,)))
    assert len(x) == 0 and "samples of shape (640,), which are no images" in next(iter(refused.values()))


def test_a_description_of_another_program_is_refused():
    with pytest.raises(
        PipelineError, match=r"says that a sample is \(3, 6, 5\), and the program takes \(7,\)"
    ):
        GivenInputs([], (7,), described())
