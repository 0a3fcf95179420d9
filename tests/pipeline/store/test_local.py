"""Entries are atomic, verified, replaceable, prunable."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.runner import run_stages
from pipeline.store.command import entries, prune
from pipeline.store.local import Store
from pipeline.store.manifest import read_manifest

FACTS = {"stage": "make", "config": {"value": 3.0}}


@pytest.fixture
def store(tmp_path, warnings):
    return Store(tmp_path / "store", warn=warnings.append)


def save(store, fakes, value=3.0, key="a" * 64, kind="number"):
    with store.lock(kind, key):
        return store.save(kind, key, fakes.Number(value), made_from=FACTS, seconds=1.5)


def test_what_is_saved_is_found_with_its_content_hash(store, fakes):
    saved = save(store, fakes)
    assert store.find("number", "a" * 64) == saved
    assert fakes.Number.load(saved.path).value == 3.0
    assert store.find("number", "b" * 64) is None
    assert save(store, fakes, key="b" * 64).sha256 == saved.sha256  # the content's, not the key's
    assert save(store, fakes, value=4.0, key="c" * 64).sha256 != saved.sha256


def test_the_manifest_says_what_the_artifact_was_made_from(store, fakes):
    manifest = read_manifest(save(store, fakes).path)
    assert manifest["made_from"] == FACTS
    assert (manifest["kind"], manifest["stage"], manifest["seconds"]) == ("number", "make", 1.5)
    assert manifest["files"]["value.txt"]["bytes"] == 3


def flip_a_byte(path):
    file = path / "value.txt"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])


def lose_a_file(path):
    (path / "value.txt").unlink()


def add_a_file(path):
    (path / "stray.txt").write_text("?")


def cut_the_manifest(path):
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text[: len(text) // 2])


def lose_the_manifest(path):
    (path / "manifest.json").unlink()


def change_the_manifest(path):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": "0" * 64}))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (flip_a_byte, "value.txt: its sha256 is not the manifest's"),
        (lose_a_file, "value.txt: missing, or not in the manifest"),
        (add_a_file, "stray.txt: missing, or not in the manifest"),
        (cut_the_manifest, "manifest.json: not a readable manifest"),
        (lose_the_manifest, "manifest.json: not a readable manifest"),
        (change_the_manifest, "manifest.json: its sha256 is not that of its files"),
    ],
)
def test_a_damaged_entry_is_warned_of_and_computed_again(fakes, context, tmp_path, warnings, damage, text):
    stages = [fakes.Make(), fakes.DoSquare()]
    first = run_stages(stages, context())
    (path,) = (tmp_path / "store" / "square").iterdir()
    damage(path)
    fakes.ran()
    second = run_stages(stages, context())
    assert [line for line in fakes.ran() if "check" not in line] == ["load number", "square"]
    assert second["square/value"] == first["square/value"]
    assert all(text in line and "square is damaged" in line for line in warnings) and warnings
    warnings.clear()
    assert run_stages(stages, context())["stage/square/cached"] == 1.0
    assert warnings == []


def test_an_artifact_that_fails_to_save_leaves_nothing(store, fakes):
    class Broken(fakes.Number):
        def save(self, directory):
            super().save(directory)
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.save("number", "a" * 64, Broken(1.0), made_from=FACTS, seconds=0.0)
    assert store.find("number", "a" * 64) is None
    assert list((store.root / ".tmp").iterdir()) == []


def test_prune_removes_what_killed_runs_left_but_not_what_a_run_is_writing(store, fakes):
    kept = save(store, fakes)
    leftovers = [store.root / ".tmp" / f"number.{letter * 64}.x1y2" for letter in "bc"]
    for folder in leftovers:
        folder.mkdir()
        (folder / "value.txt").write_text("half")
    with store.lock("number", "c" * 64):
        assert prune(store) == 4
    assert [folder.exists() for folder in leftovers] == [False, True]
    assert store.find("number", "a" * 64) == kept


def test_prune_selects_by_kind_and_by_last_use(store, fakes):
    old, new, other = save(store, fakes), save(store, fakes, key="b" * 64), save(store, fakes, kind="sum")
    long_ago = time.time() - 10 * 86_400
    for ref in (old, other):
        os.utime(ref.path / "manifest.json", (long_ago, long_ago))
    prune(store, kind="number", older_than=5)
    assert [ref.path.exists() for ref in (old, new, other)] == [False, True, True]
    store.find("sum", "a" * 64)  # use makes it young again
    prune(store, older_than=5)
    assert other.path.exists()
    prune(store, everything=True)
    assert list(entries(store.root)) == []


def test_scratch_survives_until_its_artifact_is_stored_or_pruned(store, fakes):
    for letter in "abc":
        (store.scratch("number", letter * 64) / "checkpoint").write_text("1234")
    assert (store.scratch("number", "a" * 64) / "checkpoint").read_text() == "1234"
    save(store, fakes)
    left = store.root / ".scratch"
    assert sorted(path.name[:8] for path in left.iterdir()) == ["number.b", "number.c"]
    assert prune(store) == 0  # a killed training goes on from it
    with store.lock("number", "c" * 64):
        assert prune(store, kind="sum", everything=True) == 0
        prune(store, kind="number", everything=True)
    assert [path.name[:8] for path in left.iterdir()] == ["number.c"]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.store", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_line_lists_and_prunes(store, fakes):
    save(store, fakes)
    save(store, fakes, kind="sum")
    listed = command("list", "--path", str(store.root))
    assert "number" in listed.stdout and "aaaaaaaaaaaa" in listed.stdout and "2 entries" in listed.stdout
    assert command("prune", "--path", str(store.root), "--kind", "sum").stdout.startswith("freed ")
    assert [entry.kind for entry in entries(store.root)] == ["number"]
    missing = command("list", "--path", str(store.root / "nowhere"))
    assert missing.returncode == 1 and "no such folder. Remedy: name the store" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["prune", "--kind", "numbr"],
            r"--kind=numbr: \S+ holds none of it; did you mean 'number'\? valid: n",
        ),
        (["list", "--kind", "nosuch"], r"--kind=nosuch: \S+ holds none of it; valid: number"),
        (["prune", "--older-than", "2026-01-01"], "--older-than: 2026-01-01 must be a number of days, 0 or"),
        (["prune", "--older-than", "-3"], "--older-than: -3 must be a number of days, 0 or more"),
        (["prune", "--older-than", "nan"], "--older-than: nan must be a number of days, 0 or more"),
        (["prune", "--knd", "number"], "--knd: no such argument; did you mean '--kind'"),
        (["list", "--path", "s3://bucket/a"], "--path=s3:/bucket/a: is an address. Remedy: a folder"),
    ],
)
def test_a_wrong_argument_removes_nothing_and_is_one_line(store, fakes, arguments, said):
    save(store, fakes)
    given = arguments if "--path" in arguments else [*arguments, "--path", str(store.root)]
    done = command(*given)
    assert done.returncode in (1, 2) and re.match(said, done.stderr) and done.stderr.count("\n") == 1
    assert len(list(entries(store.root))) == 1


def test_a_folder_that_is_no_store_loses_nothing(tmp_path):
    kept = tmp_path / "thesis" / "chapter"
    kept.mkdir(parents=True)
    assert prune(Store(tmp_path), everything=True) == 0
    assert kept.is_dir() and list(entries(tmp_path)) == []


@pytest.mark.parametrize("files", [7, ["a"], {"a": 7}, {"a": {"sha256": 7}}, {"a": {}}, None])
def test_a_manifest_of_other_types_is_damage(tmp_path, files):
    (tmp_path / "manifest.json").write_text(
        json.dumps({"format": 1, "sha256": "", "stage": "", "seconds": 0, "files": files})
    )
    with pytest.raises(ValueError, match=r"not a readable manifest \('files' is no mapping of names to hash"):
        read_manifest(tmp_path)


def test_entries_have_the_permissions_of_new_files(tmp_path):
    """So that others read a shared store: folders of tempfile and files of safetensors are private."""
    old = os.umask(0o002)
    try:
        store = Store(tmp_path)
        ref = store.save("thing", "key", Private(), made_from={}, seconds=0.0)
        lock = store.file_lock("thing", "key")
        with lock:
            assert Path(lock.lock_file).stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [ref.path, *ref.path.rglob("*")]}
    assert modes == {"key": 0o775, "private": 0o664, "manifest.json": 0o664}


def test_an_entry_whose_time_cannot_be_written_is_found(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.save("thing", "key", Private(), made_from={}, seconds=0.0)

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "utime", refused)
    assert store.find("thing", "key") is not None


class Private:
    """An artifact in a file that its writer keeps to itself, as safetensors does."""

    def save(self, directory: Path) -> None:
        os.close(os.open(directory / "private", os.O_CREAT | os.O_WRONLY, 0o600))
