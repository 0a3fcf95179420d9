"""The archive of CIFAR-10; what is in it changes, or the zip does."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from pathlib import Path

from pipeline.errors import PipelineError
from stages.data.cifar10 import ARCHIVE, RECORD, TEST_FILES, TRAIN_FILES, Cifar10
from tests.fuzzing.changes import real, shaken
from tests.fuzzing.running import said


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=rng.choice((0, 1, 2))) as tar:
        for number, name in enumerate(TRAIN_FILES + TEST_FILES):
            info = tarfile.TarInfo(("x" * 120 if rng.random() < 0.2 else "x") + f"/{name}")
            info.size = RECORD
            tar.addfile(info, io.BytesIO(bytes((number,)) + bytes(range(1, 1 + 24)) * (RECORD // 24)))
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
    if split.labels.max() >= 10 or written >= 10 * 6 * RECORD:
        return f"{written} bytes written"
    return "equal" if real(split.images) else "mistrusted"
