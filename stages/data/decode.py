"""Image files to one memory-mapped uint8 array, decoded once, in parallel threads."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from pipeline.environment import available_cores
from pipeline.errors import PipelineError
from stages.data.base import ImageShape
from stages.data.files import written_atomically
from stages.data.listing import Listing

VERSION = 1
"""Part of the cache's key: raise it where decoding gives other pixels than before."""

CHUNK = 64
"""Images a task: enough that threads do not wait for each other's bookkeeping."""


def decode(listing: Listing, shape: ImageShape, *, resize: bool, cache: Path) -> NDArray[np.uint8]:
    """All images of `listing`, RGB, as a read-only memory map (N, *shape).

    The array lies in ``cache/<name>-<key>.npy``; the key covers the images' fingerprint, `shape` and
    `resize`. Two processes that need it decode once.

    Args:
        listing: the images.
        shape: (3, H, W).
        resize: scale each image to cover (H, W) and crop its centre; False refuses other sizes.
        cache: folder of decoded arrays.

    Raises:
        PipelineError: a file that cannot be decoded or has another size; names it.
    """
    key = hashlib.sha256(repr((VERSION, listing.fingerprint, shape, resize)).encode()).hexdigest()
    file = cache / f"{listing.path.stem}-{key[:16]}.npy"
    whole = (len(listing.names), *shape)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if (images := _cached(file, whole)) is None:
            _check_space(cache, int(np.prod(whole)), listing)
            _decode_all(listing, whole, resize, file)
            images = _cached(file, whole)
    if images is None:
        raise PipelineError(f"{file}: cannot be read back after it was written; check the disk.")
    return images


@lru_cache(maxsize=8)  # to open a .zip is to list it
def image_size(listing: Listing, name: str) -> tuple[int, int]:
    """Height and width of one image, from its header."""
    with listing.reader() as read:
        try:
            with Image.open(io.BytesIO(read(name))) as image:
                return image.height, image.width
        except Exception as error:  # as in _decode
            raise _undecodable(listing, name, error) from error


def _cached(file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The array, or None where there is none or it is not what it should be."""
    try:
        images: NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _check_space(cache: Path, needed: int, listing: Listing) -> None:
    """A memory map that outgrows the disk kills the process, so look first."""
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise PipelineError(
            f"{listing.option}={listing.path}: decoded images need {needed / 2**30:.1f} GiB in {cache}, "
            f"which has {free / 2**30:.1f} GiB left.\n"
            "Remedy: give a smaller data.size=…, or data.cache=… on another disk."
        )


def _decode_all(listing: Listing, shape: tuple[int, ...], resize: bool, file: Path) -> None:
    names = listing.names
    with written_atomically(file) as temporary, listing.reader() as read:
        images = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)

        def fill(start: int) -> None:
            for row in range(start, min(start + CHUNK, len(names))):
                images[row] = _decode(listing, names[row], read, shape[1:], resize)

        pool = ThreadPoolExecutor(available_cores())
        try:
            console = Console(stderr=True)
            tasks = pool.map(fill, range(0, len(names), CHUNK))
            total = -(-len(names) // CHUNK)
            description = f"  decoding {listing.path.name}"
            for _ in track(
                tasks, description, total, console=console, transient=True, disable=not console.is_terminal
            ):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        images.flush()


def _decode(
    listing: Listing, name: str, read: Callable[[str], bytes], shape: tuple[int, ...], resize: bool
) -> NDArray[np.uint8]:
    """One image, uint8 (3, H, W)."""
    _, height, width = shape
    try:
        with Image.open(io.BytesIO(read(name))) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                raise ValueError(f"its pixels are of mode {image.mode}, not of 8 bits a channel")
            rgb = image.convert("RGB")
    except Exception as error:  # damaged files make Pillow raise OSError, SyntaxError, struct.error, …
        raise _undecodable(listing, name, error) from error
    if resize:
        rgb = ImageOps.fit(rgb, (width, height), Image.Resampling.BILINEAR)
    elif rgb.size != (width, height):
        raise PipelineError(
            f"{listing.option}={listing.path}: '{name}' has {rgb.height}×{rgb.width} pixels, the first "
            f"training image {height}×{width}.\n"
            f"Remedy: give data.size={height}, or data.size=[height,width], to resize all images."
        )
    return np.asarray(rgb).transpose(2, 0, 1)


def _undecodable(listing: Listing, name: str, error: Exception) -> PipelineError:
    return PipelineError(
        f"{listing.option}={listing.path}: '{name}' cannot be decoded: {error or type(error).__name__}.\n"
        "Remedy: replace the file or delete it."
    )
