"""The content-addressed store: an artifact is computed once, and reused by every run.

``<root>/<kind>/<key>/`` holds an artifact's files beside `manifest.json`, which lists the sha256 and size
of each and says what the artifact was made from. An entry appears by one atomic rename of a finished,
fsynced folder: a killed process leaves no half entry, only a folder under ``<root>/.tmp`` that nobody
reads and `prune` removes. A lock a key lets two processes compute a thing once.

``python -m pipeline.store list|prune`` shows and trims it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.artifact import Artifact, ArtifactRef

MANIFEST = "manifest.json"
FORMAT = 1


class Store:
    """Artifacts by kind and key, under one folder shared by all runs and processes.

    Args:
        root: the folder; created when first written to.
        reuse: False finds nothing, so that everything is computed anew, and stored.
        warn: told of damaged entries and of waiting for another process.
    """

    def __init__(self, root: Path, *, reuse: bool = True, warn: Callable[[str], None] = print) -> None:
        self.root = root.absolute()
        self.reuse = reuse
        self._warn = warn

    def find(self, kind: str, key: str) -> ArtifactRef | None:
        """The entry, its files verified against their hashes; None where absent or damaged."""
        path = self.root / kind / key
        if not self.reuse or not path.is_dir():
            return None
        try:
            ref = self.verify(path)
        except ValueError as damage:
            self._warn(f"stored {kind} is damaged and will be computed again: {damage}")
            return None
        with suppress(OSError):  # another user's, or a disk that is only read
            os.utime(path / MANIFEST)  # when it was last used, for prune --older-than
        return ref

    @contextmanager
    def lock(self, kind: str, key: str) -> Iterator[None]:
        """Hold the entry while computing it; another process that wants it waits here."""
        lock = self.file_lock(kind, key)
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            self._warn(f"another run is computing the same {kind}; waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def save(
        self, kind: str, key: str, artifact: Artifact, *, made_from: Mapping[str, Any], seconds: float
    ) -> ArtifactRef:
        """Write an artifact under its key, replacing a damaged or older entry. Call within `lock`."""
        with self._staged(kind, key) as folder:
            artifact.save(folder)
            files = {name: _file_entry(folder / name) for name in _files(folder)}
            manifest = {
                "format": FORMAT,
                "kind": kind,
                "key": key,
                "sha256": _content_hash(files),
                "stage": made_from.get("stage", ""),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "files": files,
                "made_from": made_from,
            }
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(self.root / ".scratch" / f"{kind}.{key}", ignore_errors=True)
        return ArtifactRef(kind=kind, sha256=str(manifest["sha256"]), path=self.root / kind / key)

    @contextmanager
    def receive(self, kind: str, key: str) -> Iterator[Path]:
        """A folder to copy an entry into, its manifest too; it is verified, then part of the store.

        Raises:
            ValueError: what was copied is not this entry, whole.
        """
        with self._staged(kind, key) as folder:
            yield folder
            self.verify(folder)
            manifest = read_manifest(folder)
            if (manifest["kind"], manifest["key"]) != (kind, key):
                raise ValueError(
                    f"{folder / MANIFEST}: of another entry, {manifest['kind']}/{manifest['key']}"
                )

    def scratch(self, kind: str, key: str) -> Path:
        """A folder for the state of a computation under way; `save` under the same key removes it."""
        folder = self.root / ".scratch" / f"{kind}.{key}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def verify(self, path: Path) -> ArtifactRef:
        """Check every file of an entry. Raises `ValueError` naming the first that does not match."""
        manifest = read_manifest(path)
        files = manifest["files"]
        if names := set(files) ^ set(_files(path)):
            raise ValueError(f"{path / min(names)}: missing, or not in the manifest")
        for name, entry in files.items():
            if _sha256(path / name) != entry["sha256"]:
                raise ValueError(f"{path / name}: its sha256 is not the manifest's")
        if (content := _content_hash(files)) != manifest["sha256"]:
            raise ValueError(f"{path / MANIFEST}: its sha256 is not that of its files")
        return ArtifactRef(kind=path.parent.name, sha256=content, path=path)

    def file_lock(self, kind: str, key: str) -> FileLock:
        """The lock of an entry, not acquired."""
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{kind}.{key}.lock", mode=0o666)  # whoever shares the store may wait for it

    @contextmanager
    def _staged(self, kind: str, key: str) -> Iterator[Path]:
        """A folder outside the entries, which becomes the entry, on the disk and whole, after the block."""
        temporary_root = self.root / ".tmp"
        temporary_root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{kind}.{key}.", dir=temporary_root))
        try:
            yield folder
            _open_to_others(folder)
            for path in [*folder.rglob("*"), folder]:
                _fsync(path)
            self._place(folder, self.root / kind / key)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _place(self, folder: Path, target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f"{target.parent.name}.{target.name}.", dir=folder.parent))
            target.rename(old / "replaced")
            folder.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            folder.rename(target)
        _fsync(target.parent)


def _open_to_others(folder: Path) -> None:
    """Give files and folders the permissions that the user gives new ones: the store may be shared.

    Folders of tempfile and files of safetensors are private; the manifest is a plain new file.
    """
    mode = (folder / MANIFEST).stat().st_mode & 0o666
    for path in [folder, *folder.rglob("*")]:
        path.chmod(mode | (mode & 0o444) >> 2 if path.is_dir() else mode)


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


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(name for p in paths if (name := p.relative_to(folder).as_posix()) != MANIFEST)


def _file_entry(path: Path) -> dict[str, Any]:
    return {"sha256": _sha256(path), "bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    """sha256 over the sorted names and hashes of an artifact's files: the artifact's identity."""
    lines = (f"{name}\0{entry['sha256']}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
