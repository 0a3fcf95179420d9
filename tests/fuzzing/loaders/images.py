"""A .zip of images; one of them changes, or the zip does."""

from __future__ import annotations

import io
import random
import zipfile
from functools import cache
from pathlib import Path

from PIL import Image

from pipeline.errors import PipelineError
from stages.data.image_folder import image_folder
from tests.fuzzing.changes import real, shaken
from tests.fuzzing.running import said


@cache
def _pictures() -> tuple[tuple[str, bytes], ...]:
    found = []
    for number, kind in enumerate(("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (number * 30, 100, 50)).save(buffer, kind)
        found.append((f"{'cat' if number % 2 else 'dog'}/{number}.{kind}", buffer.getvalue()))
    return tuple(found)


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
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
    if len(split) > len(_pictures()):
        return "more images than there are"
    return "equal" if real(split.images) else "mistrusted"
