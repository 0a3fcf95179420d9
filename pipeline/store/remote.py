"""A store that machines share: a folder of each machine's own, over an address that fsspec knows.

::

    <url>/<kind>/<key>.json     an entry's manifest
    <url>/files/<sha256>        files, by content

An entry is there as soon as its manifest is, which is written last. Files are named by their content, so two
machines that compute the same entry at once cannot mix their files: the later manifest wins, and both are
whole. What is downloaded is verified against the manifest before it enters the local store. Locks are local
to a machine: a lost race costs work, never correctness.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.artifact import Artifact, ArtifactRef, Figures
from pipeline.configuration.schema import StoreConfig
from pipeline.context import ArtifactStore
from pipeline.errors import PipelineError
from pipeline.store.local import Store
from pipeline.store.manifest import MANIFEST, read_manifest


class RemoteStore:
    """`local`, filled from and copied to `url`.

    Args:
        local: the store of this machine.
        url: ``s3://bucket/folder``, ``gs://…``, ``file:///mount/folder``, … as fsspec names it.
        warn: told of what is damaged, or cannot be reached. A run then goes on without.
    """

    def __init__(self, local: Store, url: str, *, warn: Callable[[str], None] = print) -> None:
        self._local = local
        self._url = url
        self._warn = warn
        try:
            from fsspec.core import url_to_fs  # takes a moment, and most runs have a folder

            self._remote, root = url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise PipelineError(
                f"store.path={url}: {error}; give a folder, or an address as s3://bucket/folder"
            ) from error
        self._root = root.rstrip("/")

    def find(self, kind: str, key: str) -> ArtifactRef | None:
        """The local entry; else the remote one, downloaded and verified."""
        ref = self._local.find(kind, key)
        if ref is None and self._local.reuse and self._download(kind, key):
            ref = self._local.find(kind, key)
        return ref

    @contextmanager
    def lock(self, kind: str, key: str) -> Iterator[None]:
        """Hold the entry on this machine."""
        with self._local.lock(kind, key):
            yield

    def scratch(self, kind: str, key: str) -> Path:
        """The local store's."""
        return self._local.scratch(kind, key)

    @contextmanager
    def opened(self, ref: ArtifactRef) -> Iterator[Path]:
        """The local store's copy."""
        with self._local.opened(ref) as folder:
            yield folder

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
        """Save locally, then upload: files first, the manifest last."""
        ref = self._local.save(kind, key, artifact, made_from=made_from, seconds=seconds, figures=figures)
        try:
            for name, entry in read_manifest(ref.path)["files"].items():
                address = self._file(entry["sha256"])
                if not self._remote.exists(address) or self._remote.size(address) != entry["bytes"]:
                    self._put(ref.path / name, address)
            self._put(ref.path / MANIFEST, self._manifest(kind, key))
        except Exception as error:  # any of fsspec's many backends, with errors of its own
            self._warn(f"{self._url}: could not upload {kind}, which other machines will compute: {error}")
        return ref

    def _download(self, kind: str, key: str) -> bool:
        """Bring an entry into the local store; False where there is none, or it is not whole."""
        address = self._manifest(kind, key)
        try:
            if not self._remote.exists(address):
                return False
            manifest = self._remote.cat_file(address)
            with self._local.receive(kind, key) as folder:
                for name, entry in _files(manifest).items():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    self._remote.get_file(self._file(entry["sha256"]), str(folder / name))
                (folder / MANIFEST).write_bytes(manifest)
        except Exception as error:  # as above
            self._warn(f"{self._url}: could not download {kind}, which will be computed: {error}")
            return False
        return True

    def _put(self, path: Path, address: str) -> None:
        self._remote.makedirs(address.rpartition("/")[0], exist_ok=True)
        self._remote.put_file(str(path), address)

    def _manifest(self, kind: str, key: str) -> str:
        return f"{self._root}/{kind}/{key}.json"

    def _file(self, sha256: str) -> str:
        return f"{self._root}/files/{sha256}"


def open_store(config: StoreConfig, *, warn: Callable[[str], None] = print) -> ArtifactStore:
    """The store that ``store.path`` names: a folder, or an address with a folder before it."""
    if "://" not in config.path:
        return Store(Path(config.path), reuse=config.reuse, warn=warn)
    return RemoteStore(Store(config.cache, reuse=config.reuse, warn=warn), config.path, warn=warn)


def _files(manifest: bytes) -> Mapping[str, Mapping[str, Any]]:
    """The files of a manifest from elsewhere. Raises `ValueError` for a name that leads out of the entry."""
    files: Mapping[str, Mapping[str, Any]] = json.loads(manifest)["files"]
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"its manifest names a file outside the entry: {name!r}")
    return files
