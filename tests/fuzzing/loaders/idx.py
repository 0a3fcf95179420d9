"""A set of digits, plain or zipped; zipped, what is in it changes, or the zip does."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

import numpy as np

from pipeline.errors import PipelineError
from stages.data.mnist import FILES, Mnist
from tests.fuzzing.changes import real, shaken
from tests.fuzzing.running import said


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
    changed = rng.choice(tuple(FILES))
    for name in FILES:
        shape = (3, 28, 28) if "images" in name else (3,)
        head = struct.pack(f">{1 + len(shape)}I", 0x800 | len(shape), *shape)
        content = head + bytes(i * 7 % 10 for i in range(int(np.prod(shape))))
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
    if split.images.shape[1:] != (1, 28, 28) or split.labels.max() >= 10:
        return "other arrays"
    return "equal" if real(split.images) else "mistrusted"
