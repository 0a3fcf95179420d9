"""Files from elsewhere changed at random, and read: ``python -m tests.fuzz_files --kind idx --count 10000``.

Whatever bytes a file has, reading it gives what it holds or one `PipelineError`, in little memory and time.
`tests.test_fuzz_files` runs some of each kind.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import struct
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import nn

from pipeline.artifact import Artifact
from pipeline.errors import PipelineError
from pipeline.store.local import Store
from pipeline.store.manifest import MANIFEST
from stages.data.array_files import ArrayFile
from stages.data.cifar10 import ARCHIVE, RECORD, TEST_FILES, TRAIN_FILES, Cifar10
from stages.data.image_folder import image_folder
from stages.data.mnist import FILES, Mnist
from stages.models.weights import load_weights
from tests import fuzzing
from tests.fuzz_programs import mutate
from tests.fuzzing import said, shaken

MEMORY = 6 * 2**30
"""Bytes of address space that a child may have."""


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


@cache
def _checkpoints() -> tuple[tuple[str, bytes], ...]:
    state = _network().state_dict()
    found = [("a.safetensors", save(state))]
    for legacy in (False, True):
        for extra in ({}, {"epoch": 3, "array": np.arange(3)}):
            buffer = io.BytesIO()
            held = {"state_dict": state, **extra} if extra else state
            torch.save(held, buffer, _use_new_zipfile_serialization=not legacy)
            found.append(("a.pt", buffer.getvalue()))
    return tuple(found)


def weights(rng: random.Random, folder: Path) -> str:
    """A checkpoint, of three formats."""
    name, content = rng.choice(_checkpoints())
    (folder / name).write_bytes(shaken(content, rng))
    try:
        module = load_weights(_network(), str(folder / name), "small")
    except PipelineError as error:
        return said(error)
    finite = all(torch.isfinite(tensor).all() for tensor in module.state_dict().values())
    return "equal" if finite else "NaN or infinity was taken"


def idx(rng: random.Random, folder: Path) -> str:
    """A set of digits, plain or zipped; zipped, what is in it changes, or the zip does."""
    changed = rng.choice(tuple(FILES))
    for name in FILES:
        shape = (3, 28, 28) if "images" in name else (3,)
        head = struct.pack(f">{1 + len(shape)}I", 0x800 | len(shape), *shape)
        content = head + bytes(i % 10 for i in range(int(np.prod(shape))))
        way = rng.random()
        if name != changed:
            (folder / name).write_bytes(content)
        elif way < 0.4:
            (folder / name).write_bytes(shaken(content, rng))
        elif way < 0.7:
            (folder / f"{name}.gz").write_bytes(gzip.compress(shaken(content, rng)))
        else:
            (folder / f"{name}.gz").write_bytes(shaken(gzip.compress(content), rng))
    try:
        data = Mnist(root=folder)
        data.check()
        split = rng.choice((data.train, data.test))()
    except PipelineError as error:
        return said(error)
    return "equal" if split.images.shape[1:] == (1, 28, 28) and split.labels.max() < 10 else "other arrays"


def cifar(rng: random.Random, folder: Path) -> str:
    """The archive of CIFAR-10; what is in it changes, or the zip does."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=rng.choice((0, 1, 2))) as tar:
        for number, name in enumerate(TRAIN_FILES + TEST_FILES):
            info = tarfile.TarInfo(("x" * 120 if rng.random() < 0.2 else "x") + f"/{name}")
            info.size = RECORD
            tar.addfile(info, io.BytesIO(bytes((number,)) * RECORD))
    content = bytearray(buffer.getvalue())
    if rng.random() < 0.8:  # headers, with a checksum that fits, or all of it
        for _ in range(rng.choice((1, 2))):
            at = 512 * rng.randrange(len(content) // 512)
            header = bytearray(shaken(bytes(content[at : at + 512]), rng)[:512].ljust(512, b"\0"))
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            content[at : at + 512] = header
        packed = gzip.compress(bytes(content), 1)
    else:
        packed = shaken(gzip.compress(bytes(content), 1), rng)
    (folder / ARCHIVE).write_bytes(packed)
    try:
        split = Cifar10(root=folder).train()
    except PipelineError as error:
        return said(error)
    written = sum(path.stat().st_size for path in folder.rglob("*.bin"))
    return "equal" if split.labels.max() < 10 and written < 10 * 6 * RECORD else f"{written} bytes written"


@cache
def _pictures() -> tuple[tuple[str, bytes], ...]:
    found = []
    for number, kind in enumerate(("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (number * 30, 100, 50)).save(buffer, kind)
        found.append((f"{'cat' if number % 2 else 'dog'}/{number}.{kind}", buffer.getvalue()))
    return tuple(found)


def images(rng: random.Random, folder: Path) -> str:
    """A .zip of images; one of them changes, or the zip does."""
    broken = rng.randrange(2 * len(_pictures()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for number, (name, content) in enumerate(_pictures()):
            archive.writestr(name, shaken(content, rng) if number == broken else content)
    content = buffer.getvalue()
    if broken >= len(_pictures()):  # its directory, at the end, more than the rest
        cut = rng.choice((0, content.rindex(b"PK\1\2"), content.index(b"PK\1\2")))
        content = content[:cut] + shaken(content[cut:], rng)
    (folder / "a.zip").write_bytes(content)
    options = {} if rng.random() < 0.3 else {"resize": 6, "crop": 5}
    try:
        data = image_folder(
            train=folder / "a.zip", test=folder / "a.zip", cache=folder / "cache",
            skip_unreadable=rng.random() < 0.5, max_pixels=2**20, **options,
        )  # fmt: skip
        split = data.train()
    except PipelineError as error:
        return said(error)
    return "equal" if len(split) <= len(_pictures()) else "more images than there are"


def arrays(rng: random.Random, folder: Path) -> str:
    """Arrays of three formats."""
    kind = rng.choice(("npy", "npz", "npz", "safetensors"))
    buffer, array = io.BytesIO(), np.arange(24, dtype=np.float32).reshape(4, 6)
    if kind == "npy":
        np.save(buffer, array)
    elif kind == "npz":
        rng.choice((np.savez, np.savez_compressed))(buffer, x=array, y=np.arange(4))
    else:
        buffer.write(save({"x": torch.from_numpy(array), "y": torch.arange(4)}))
    path = folder / f"a.{kind}"
    path.write_bytes(shaken(buffer.getvalue(), rng))
    try:
        file = ArrayFile(path, "data.train")
        read = [file.read(key) for key in list(file.keys())]
        total = sum(array.nbytes for array in read)
        _ = [array.sum() for array in read if array.dtype.kind in "biuf"]
    except PipelineError as error:
        return said(error)
    return "equal" if total <= 4 * path.stat().st_size else f"{total} bytes of arrays"


class _Words(Artifact):
    kind = "words"

    def save(self, directory: Path) -> None:
        """Two files, one below a folder."""
        (directory / "a.txt").write_text("some words")
        (directory / "in").mkdir()
        (directory / "in" / "b.txt").write_text("others")


def entry(rng: random.Random, folder: Path) -> str:
    """An entry of the store: its manifest, or a file of it, changes."""
    warned: list[str] = []
    store = Store(folder / "store", warn=warned.append)
    ref = store.save("words", "key", _Words(), made_from={"stage": "write"}, seconds=0.1)
    before = ref.sha256
    path = ref.path / rng.choice((MANIFEST, MANIFEST, "a.txt", "in/b.txt"))
    if path.name == MANIFEST and rng.random() < 0.6:
        document = json.loads(path.read_text())
        mutate(document, rng)
        path.write_text(json.dumps(document))
    else:
        path.write_bytes(shaken(path.read_bytes(), rng))
    found = store.find("words", "key")
    if found is None:
        return "refused" if len(warned) == 1 else f"not found, and said {warned}"
    same = found.sha256 == before and (found.path / "a.txt").read_text() == "some words"
    return "equal" if same and not warned else "found what was not stored"


CASES = {
    "weights": weights, "idx": idx, "cifar": cifar, "images": images, "arrays": arrays, "entry": entry,
}  # fmt: skip


def main() -> int:
    """Parse the command line; 1 where a case is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=(*CASES, "all"), default="all")
    for name, default in (("count", 1000), ("seed", 0), ("first", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        torch.set_num_threads(1)
        fuzzing.child(CASES, chosen.kind, chosen.first, chosen.count, chosen.seed, MEMORY)
        return 0
    wrong = 0
    for kind in CASES if chosen.kind == "all" else (chosen.kind,):
        outcomes = fuzzing.run(
            "tests.fuzz_files", [f"--kind={kind}"], chosen.count, chosen.seed, chosen.first
        )
        print(f"{kind}: {', '.join(f'{count} {name}' for name, count in outcomes.most_common())}", flush=True)
        wrong += outcomes["wrong"]
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
