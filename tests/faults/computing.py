"""What happens to a run's computing: it is killed, its disk fills up or is only read, its store is damaged.

Each case disturbs one run, gives the same command again where that is the remedy, and compares what came of
it with an undisturbed run: the same program to the byte, the same figures. A case answers with what happened;
``wrong: …`` where work was lost, an artifact is another, or what was said is no clear line.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.workshop import Run, Workshop


def killed(shop: Workshop, rng: random.Random, stage: str) -> str:
    """Kill a run at a random moment of `stage`, and run it again over the same store."""
    store = shop.copied(upto=stage)
    run = shop.start(store)
    begun = run.until(stage)
    time.sleep(rng.uniform(0.0, 1.2) * shop.seconds[stage])
    if run.running():
        run.kill()
    before = _entries(store)
    again = shop.start(store)
    if again.wait():
        return f"wrong: {_last(again)}"
    if lost := [entry for entry in before if not entry.exists()]:
        return f"wrong: lost {lost[0]}"
    if wrong := shop.wrong(again):
        return f"wrong: {wrong}"
    if any((store / ".scratch").glob("*")):
        return "wrong: a checkpoint is left of a stage that is stored"
    return "goes on, equal" if begun and run.code else "had ended before, equal"


def checkpoint_changed(shop: Workshop, rng: random.Random) -> str:
    """Kill a training after an epoch, change a byte of its checkpoint, and run it again."""
    stage = rng.choice(["train", "finetune"])
    store = shop.copied(upto=stage)
    run = shop.start(store)
    run.until(stage)
    while run.running() and not (files := list((store / ".scratch").glob("*/*.safetensors"))):
        time.sleep(0.005)
    if not run.running():
        return "had ended before"
    run.kill()
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return _equal(shop, shop.start(store), "noticed, trained anew, equal")


def entry_damaged(shop: Workshop, rng: random.Random, how: str) -> str:
    """Damage random entries at random moments of a run that takes all from the store, or half of it."""
    store = shop.copied(upto=rng.choice(shop.stages[3:]))
    run = shop.start(store)
    damaged = 0
    while run.running():
        time.sleep(rng.uniform(0.0, 0.1))
        if damaged < 3 and (entries := _entries(store)):
            damaged += _damage(rng, rng.choice(entries), how)
    if (code := run.wait()) == 1 and "the same command again" not in run.text():
        return f"wrong: {_last(run)}"
    if code not in (0, 1):
        return f"wrong: {_last(run)}"
    if code == 0 and (wrong := shop.wrong(run)):
        return f"wrong: {wrong}"
    told = "computed again" in run.text()
    said = "refused in one line" if code else "made again, equal" if told else "not met, equal"
    return _equal(shop, shop.start(store), f"{said}; next run equal")


def disk_full(shop: Workshop, rng: random.Random) -> str:
    """Run on a disk with room for a part of it; make room, and run again."""
    need = sum(file.stat().st_size for file in shop.store.rglob("*") if file.is_file())
    with disk(rng.randint(need // 20, need)) as folder:
        if folder is None:
            return "no small disk may be mounted here"
        run = shop.start(folder / "store", within=folder)
        code = run.wait()
        kept = _entries(folder / "store")
        subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
        if code == 1 and "the disk is full" not in run.text():
            return f"wrong: {_last(run)}"
        if code not in (0, 1):
            return f"wrong: {_last(run)}"
        again = shop.start(folder / "store", within=folder)
        outcome = _equal(
            shop, again, "refused in one line; next run goes on, equal" if code else "enough room"
        )
        lost = [entry for entry in kept if not entry.exists()]
        return f"wrong: lost {lost[0]}" if lost else outcome


def disk_read_only(shop: Workshop, rng: random.Random) -> str:
    """Make the store's disk read-only at a random moment of a run; writable again, and run again."""
    with disk(2**30) as folder:
        if folder is None:
            return "no small disk may be mounted here"
        store = folder / "store"
        shutil.copytree(shop.copied(upto=rng.choice(shop.stages[2:])), store)
        if rng.random() < 0.5:
            _remount(folder, "ro")
        run = shop.start(store)
        stage = rng.choice(shop.stages)
        run.until(stage)
        while run.running() and not _remount(folder, "ro"):  # refused while a file is being written
            time.sleep(0.002)
        code = run.wait()
        _remount(folder, "rw")
        if code == 1 and "read-only" not in run.text():
            return f"wrong: {_last(run)}"
        if code not in (0, 1):
            return f"wrong: {_last(run)}"
        if code == 0 and (wrong := shop.wrong(run)):
            return f"wrong: {wrong}"
        said = "refused in one line; next run goes on, equal" if code else "nothing to write, equal"
        return _equal(shop, shop.start(store), said)


@contextmanager
def disk(size: int) -> Iterator[Path | None]:
    """A disk of so many bytes; None where this user may mount none."""
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    mounted = shutil.which("mount") and not subprocess.run(command, capture_output=True).returncode
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=False)
        folder.rmdir()


def _remount(folder: Path, how: str) -> bool:
    return not subprocess.run(["mount", "-o", f"remount,{how}", folder], capture_output=True).returncode


def _damage(rng: random.Random, entry: Path, how: str) -> int:
    """1 where something was damaged."""
    try:
        files = [file for file in entry.rglob("*") if file.is_file() and file.stat().st_size]
        if how == "deleted":
            shutil.rmtree(entry)
        elif how == "truncated":
            file = rng.choice(files)
            with file.open("r+b") as opened:
                opened.truncate(rng.randrange(file.stat().st_size))
        else:
            file = rng.choice([file for file in files if file.name != "manifest.json"])
            place = rng.randrange(file.stat().st_size)
            with file.open("r+b") as opened:
                opened.seek(place)
                byte = opened.read(1)[0]
                opened.seek(place)
                opened.write(bytes((byte ^ 1 << rng.randrange(8),)))
    except (OSError, IndexError):  # the run has replaced it in the meantime
        return 0
    return 1


def _entries(store: Path) -> list[Path]:
    return sorted(manifest.parent for manifest in store.glob("[!.]*/*/manifest.json"))


def _equal(shop: Workshop, run: Run, said: str) -> str:
    if run.wait():
        return f"wrong: {_last(run)}"
    wrong = shop.wrong(run)
    return f"wrong: {wrong}" if wrong else said


def _last(run: Run) -> str:
    """How a run ended, in a line."""
    lines = run.text().strip().splitlines() or [""]
    return f"exit {run.code}: {lines[-1][:300]}"
