"""Arrays of three formats."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from pipeline.errors import PipelineError
from stages.data.array_files import ArrayFile
from tests.fuzzing.changes import real, shaken
from tests.fuzzing.running import said


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
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
        proves = [real(array) for array in read if array.dtype.kind in "biuf"]
    except PipelineError as error:
        return said(error)
    if total > 4 * path.stat().st_size:
        return f"{total} bytes of arrays"
    return "equal" if any(proves) else "mistrusted"
