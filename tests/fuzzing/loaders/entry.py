"""An entry of the store: its manifest, or a file of it, changes."""

from __future__ import annotations

import json
import random
from pathlib import Path

from pipeline.artifact import Artifact
from pipeline.store.local import Store
from pipeline.store.manifest import MANIFEST
from tests.fuzzing.changes import mutate, shaken


class _Words(Artifact):
    kind = "words"

    def save(self, directory: Path) -> None:
        """Two files, one below a folder."""
        (directory / "a.txt").write_text("some words")
        (directory / "in").mkdir()
        (directory / "in" / "b.txt").write_text("others")


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
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
