"""``python -m pipeline.store``: what the artifact store holds, and how to trim it."""

from __future__ import annotations

import argparse
import math
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout
from rich.console import Console
from rich.table import Table

from pipeline.command_line import CommandLine
from pipeline.configuration.schema import StoreConfig
from pipeline.errors import alternatives
from pipeline.store.local import Store
from pipeline.store.manifest import MANIFEST, read_manifest

DAY = 86_400.0
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One folder of the store, as `list` shows it. A damaged one has `stage` ``(damaged)``."""

    kind: str
    key: str
    path: Path
    stage: str
    bytes: int
    seconds: float
    used: float
    """When it was stored or last reused, seconds since 1970."""


def entries(root: Path) -> Iterator[Entry]:
    """Everything the store at `root` holds, by kind, the most recently used first.

    Of folders that lie there for another reason, as where `root` is no store at all, nothing is an entry.
    """
    for kind in sorted(p for p in root.glob("*") if p.is_dir() and not p.name.startswith(".")):
        found = [_entry(path) for path in kind.iterdir() if path.is_dir() and _KEY.fullmatch(path.name)]
        yield from sorted(found, key=lambda entry: -entry.used)


def prune(
    store: Store, *, kind: str | None = None, older_than: float | None = None, everything: bool = False
) -> int:
    """Remove half-written entries of killed runs, and what else is asked for; returns bytes freed.

    Entries and checkpoints (``.scratch``) are removed only where one of the three selects them.

    Args:
        store: the store. What a run holds the lock of is left alone.
        kind: remove artifacts of this kind only.
        older_than: remove what was last used this many days ago or more.
        everything: remove whatever its age.
    """
    freed = 0
    for path in (store.root / ".tmp").glob("*.*.*"):
        kind_name, key, _ = path.name.split(".", 2)
        freed += _remove(store, kind_name, key, path)
    if kind is None and older_than is None and not everything:
        return freed
    limit = time.time() - (older_than or 0.0) * DAY
    for entry in entries(store.root):
        if kind in (None, entry.kind) and entry.used <= limit:
            freed += _remove(store, entry.kind, entry.key, entry.path)
    for path in (store.root / ".scratch").glob("*.*"):
        kind_name, key = path.name.split(".")
        if kind in (None, kind_name) and path.stat().st_mtime <= limit:
            freed += _remove(store, kind_name, key, path)
    return freed


def main() -> None:
    """Run the command line."""
    parser = CommandLine(prog="python -m pipeline.store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("list", "show what is stored"),
        (
            "prune",
            "remove what killed runs left, and the entries that --kind, --older-than or --all select",
        ),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--path", type=Path, default=Path(StoreConfig.path), help="default: %(default)s")
        command.add_argument("--kind", help="only this kind of artifact: float_model, observations, …")
        if name == "prune":
            command.add_argument("--older-than", type=_days, metavar="DAYS", help="not used for DAYS days")
            command.add_argument("--all", action="store_true", help="whatever their age")
    arguments = parser.parse_args()
    store = Store(arguments.path)
    if "://" in str(arguments.path) or ":/" in str(arguments.path):
        parser.exit(1, f"--path={arguments.path}: is an address. Remedy: a folder, as store.cache\n")
    if not store.root.is_dir():
        parser.exit(
            1, f"--path={store.root}: no such folder. Remedy: name the store, as store.path of a run\n"
        )
    kinds = {entry.kind for entry in entries(store.root)}
    kinds |= {path.name.partition(".")[0] for path in (store.root / ".scratch").glob("*.*")}
    if arguments.kind not in (None, *kinds):
        known = alternatives(arguments.kind, kinds)
        parser.exit(1, f"--kind={arguments.kind}: {store.root} holds none of it; {known}\n")
    if arguments.command == "list":
        _show(store.root, arguments.kind)
    else:
        freed = prune(store, kind=arguments.kind, older_than=arguments.older_than, everything=arguments.all)
        print(f"freed {_size(freed)} in {store.root}")


def _days(text: str) -> float:
    """A number of days; argparse prints why it is none."""
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not days >= 0.0:
        raise argparse.ArgumentTypeError(f"{text} must be a number of days, 0 or more")
    return days


def _show(root: Path, kind: str | None) -> None:
    table = Table("kind", "key", "stage", title=str(root), title_justify="left")
    for column in ("size", "took", "last used"):
        table.add_column(column, justify="right")
    total = 0
    for entry in entries(root):
        if kind in (None, entry.kind):
            total += entry.bytes
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            took = f"{entry.seconds:.1f} s"
            table.add_row(entry.kind, entry.key[:12], entry.stage, _size(entry.bytes), took, used)
    table.caption = f"{table.row_count} entries, {_size(total)}"
    Console().print(table)


def _entry(path: Path) -> Entry:
    manifest = path / MANIFEST
    try:
        values = read_manifest(path)
    except ValueError:
        values = {"stage": "(damaged)", "seconds": 0.0}
    return Entry(
        kind=path.parent.name,
        key=path.name,
        path=path,
        stage=values["stage"],
        bytes=_bytes(path),
        seconds=values["seconds"],
        used=(manifest if manifest.exists() else path).stat().st_mtime,
    )


def _remove(store: Store, kind: str, key: str, path: Path) -> int:
    """Delete a folder unless a run holds its key's lock; returns bytes freed."""
    lock = store.file_lock(kind, key)
    try:
        with lock.acquire(timeout=0):
            freed = _bytes(path)
            shutil.rmtree(path)
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        return 0
    return freed


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
