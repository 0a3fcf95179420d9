"""What stands beside an entry's files: `manifest.json`, with their hashes, and what they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifact import Figures

MANIFEST = "manifest.json"
FORMAT = 1


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of an entry's folder. Raises `ValueError` naming the file where it is not readable."""
    try:
        if not (path / MANIFEST).is_file():  # to open a FIFO is to wait
            raise ValueError("no regular file")
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}, not {FORMAT}")
        if not {"sha256", "stage", "seconds", "files"} <= set(manifest):
            raise ValueError("incomplete")
        files = manifest["files"]
        if not isinstance(files, dict) or not all(
            isinstance(entry, dict) and isinstance(entry.get("sha256"), str) for entry in files.values()
        ):
            raise ValueError("'files' is no mapping of names to hashes")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path / MANIFEST}: not a readable manifest ({error})") from error
    return manifest


def content_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    """sha256 over the sorted names and hashes of an artifact's files: the artifact's identity."""
    lines = (f"{name}\0{entry['sha256']}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def figures_of(path: Path, manifest: Mapping[str, Any]) -> Figures:
    """What the stage of an entry recorded; nothing in a manifest of an earlier version.

    Raises:
        ValueError: it is not what was stored.
    """
    if "figures" not in manifest:
        return ()
    try:
        noted = manifest["figures"]
        figures = tuple(
            (step if step is None else int(step), {str(name): float(value) for name, value in values.items()})
            for step, values in noted["values"]
        )
        if figures_hash(figures) == noted["sha256"]:
            return figures
    except (AttributeError, TypeError, ValueError, KeyError):
        pass
    raise ValueError(f"{path / MANIFEST}: its figures are not those that were recorded")


def figures_hash(figures: Figures) -> str:
    """sha256 over figures, which no hash of files covers."""
    return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()
