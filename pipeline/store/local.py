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

from pipeline.artifact import Artifact, ArtifactRef, Figures
from pipeline.store.manifest import FORMAT, MANIFEST, content_hash, figures_hash, figures_of, read_manifest


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
        except (ValueError, FileNotFoundError) as damage:
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

    @contextmanager
    def opened(self, ref: ArtifactRef) -> Iterator[Path]:
        """Yield a copy of an entry's files, verified as it was made, that is gone after the block.

        What is verified in its place may change before it is read, or while it is in use: tensors may be the
        pages of their file.

        Raises:
            ValueError: a file is missing, or is not what `ref` stands for.
        """
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            files = read_manifest(ref.path)["files"]
            if content_hash(files) != ref.sha256:
                raise ValueError(f"{ref.path / MANIFEST}: of other content than before")
            for name, entry in files.items():
                _copy(ref.path / name, Path(folder) / name, entry["sha256"])
            yield Path(folder)

    def save(
        self,
        kind: str,
        key: str,
        artifact: Artifact,
        *,
        made_from: Mapping[str, Any],
        seconds: float,
        figures: Figures = (),
    ) -> ArtifactRef:
        """Write an artifact under its key, replacing a damaged or older entry. Call within `lock`.

        Figures stand in the manifest, beside what the artifact's hash is made of.
        """
        with self._staged(kind, key) as folder:
            artifact.save(folder)
            files = {name: _file_entry(folder / name) for name in _files(folder)}
            manifest = {
                "format": FORMAT,
                "kind": kind,
                "key": key,
                "sha256": content_hash(files),
                "stage": made_from.get("stage", ""),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "files": files,
                "figures": {"sha256": figures_hash(figures), "values": figures},
                "made_from": made_from,
            }
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(self.root / ".scratch" / f"{kind}.{key}", ignore_errors=True)
        path = self.root / kind / key
        return ArtifactRef(kind=kind, sha256=str(manifest["sha256"]), path=path, figures=figures)

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
        if (content := content_hash(files)) != manifest["sha256"]:
            raise ValueError(f"{path / MANIFEST}: its sha256 is not that of its files")
        return ArtifactRef(
            kind=path.parent.name, sha256=content, path=path, figures=figures_of(path, manifest)
        )

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


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(name for p in paths if (name := p.relative_to(folder).as_posix()) != MANIFEST)


def _file_entry(path: Path) -> dict[str, Any]:
    return {"sha256": _sha256(path), "bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file. Raises `ValueError` where what was read does not have the hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with source.open("rb") as file, target.open("wb") as copy:
            while part := file.read(1 << 20):
                digest.update(part)
                copy.write(part)
    except FileNotFoundError as error:
        raise ValueError(f"{source}: missing") from error
    if digest.hexdigest() != sha256:
        raise ValueError(f"{source}: its sha256 is not the manifest's")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
