"""What happens to a record: the server dies, hangs or stays away, the database is locked, damaged or gone.

Runs of small stages by the real command line, each in a project and, where there is one, over a server of its
own. After each fault the record holds what ``metrics.json`` does, at once or when it has been delivered.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tests.faults.server import Server
from tests.pipeline.conftest import ROOT, STAGES, Fakes, Project

WAIT = 4.0
"""Seconds that the second of four stages takes: the faults fall among all of them."""

Case = Callable[[Project, random.Random, Path], str]


def tried(case: Case, folder: Path, rng: random.Random) -> str:
    """Try one case in a project of its own."""
    database = folder / "empty.db"
    if not database.exists():  # creating its tables takes seconds
        code = f"from pipeline.tracking.mlflow_client import mlflow_client; mlflow_client('sqlite:///{database}')"
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    place = folder / f"project-{rng.getrandbits(48):x}"
    (place / "code").mkdir(parents=True)
    name = f"fake_stages_{place.name[8:]}"
    (place / "code" / f"{name}.py").write_text(textwrap.dedent(STAGES))
    fakes = Fakes(module=ModuleType(name), folder=place / "code", log=place / "ran.log")
    project = Project(place / "project", fakes, database)
    project.environment |= {"FAKE_LOG": str(fakes.log), "PYTHONWARNINGS": "ignore"}
    try:
        return case(project, rng, database)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def killed(project: Project, rng: random.Random, _: Path) -> str:
    """Kill a run at a random moment, and give the same command again."""
    process = _begin(project, rng, "tracking=mlflow")
    process.kill()
    process.communicate()
    before = _runs(project)
    if error := _ended(project.start("tracking=mlflow", f"+stages.square.wait={WAIT}"), 0):
        return error
    after = _runs(project)
    new = after.keys() - before.keys()
    if len(new) != 1 or after[next(iter(new))] != "FINISHED":
        return f"wrong: {after}"
    if any(after[run] != "KILLED" for run, status in before.items() if status == "RUNNING"):
        return f"wrong: the killed run is {after}"
    if wrong := _recorded_whole(project, next(iter(new))):
        return wrong
    tags = {key for run, key in project.recorded("tags", "run_uuid, key") if run in new}
    return "KILLED, and its successor linked" if "resumes" in tags else "KILLED before it was begun"


def two_in_a_folder(project: Project, rng: random.Random, _: Path) -> str:
    """Begin two runs in one folder, the second at a random moment of the first."""
    command = ("tracking=mlflow", "hydra.run.dir=outputs/runs/day/one", f"+stages.square.wait={WAIT}")
    first = project.start(*command)
    time.sleep(rng.uniform(0.0, WAIT))
    second = project.start(*command, "seed=1")
    texts = [process.communicate(timeout=300)[1] for process in (first, second)]
    codes = [process.returncode for process in (first, second)]
    if any("Traceback" in text for text in texts) or sorted(codes) not in ([0, 1], [0, 0]):
        return f"wrong: {codes} {texts}"
    refused = [text for text, code in zip(texts, codes, strict=True) if code]
    if refused and "another run is writing there" not in refused[0]:
        return f"wrong: {refused}"
    runs = _runs(project)
    if sorted(runs.values()) != ["FINISHED"] * (2 - len(refused)):
        return f"wrong: {runs}"
    latest = project.recorded("runs", "run_uuid, start_time")
    wrong = _recorded_whole(project, max(latest, key=lambda row: row[1])[0])
    return wrong or ("one refused in a line" if refused else "one after the other")


def database_deleted(project: Project, rng: random.Random, _: Path) -> str:
    """Delete the database, with its log files or without, at a random moment."""
    process = _begin(project, rng, "tracking=mlflow")
    for file in (project.folder / "outputs").glob(rng.choice(["mlflow.db", "mlflow.db*"])):
        file.unlink(missing_ok=True)
    if error := _ended(process, 0):
        return error
    return _finished_whole(project) or "recorded whole in a new one"


def database_locked(project: Project, rng: random.Random, _: Path) -> str:
    """Lock the database for a time."""
    process = _begin(project, rng, "tracking=mlflow")
    lock = sqlite3.connect(project.folder / "outputs" / "mlflow.db", isolation_level=None, timeout=60)
    lock.execute("BEGIN EXCLUSIVE")
    time.sleep(rng.uniform(0.0, 45.0))
    lock.execute("COMMIT")
    lock.close()
    if error := _ended(process, 0):
        return error
    return _finished_whole(project) or "recorded whole"


def database_damaged(project: Project, rng: random.Random, _: Path) -> str:
    """Write over a part of the database; then move it away, and deliver."""
    process = _begin(project, rng, "tracking=mlflow", "tracking.patience=2")
    database = project.folder / "outputs" / "mlflow.db"
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(rng.choice([0, 0, rng.randrange(size // 2)]))
        file.write(rng.randbytes(rng.choice([100, 4096, size // 2])))
    _, stderr = process.communicate(timeout=300)
    if "Traceback" in stderr or process.returncode not in (0, 1):
        return f"wrong: exit {process.returncode}: {stderr[-300:]}"
    if process.returncode == 0:
        return "not met"
    for file in (project.folder / "outputs").glob("mlflow.db*"):
        file.rename(project.folder / file.name)
    if wrong := _delivered(project):
        # refused before it had begun: then there is nothing to deliver
        return "refused at the start, in a line" if not project.fakes.log.exists() else wrong
    return _finished_whole(project) or "failed at the end in a line; delivered to a new one"


def server_returns(project: Project, rng: random.Random, database: Path) -> str:
    """Let the server die at a random moment of a run, and come back at another, before the run gives up."""
    with _server(project, database) as (server, uri):
        process = _begin(project, rng, "tracking=server", uri)
        server.die()
        time.sleep(rng.uniform(0.0, 10.0))
        server.start()
        if error := _ended(process, 0):
            return error
    return _finished_whole(project) or "delivered by the run"


def server_hangs(project: Project, rng: random.Random, database: Path) -> str:
    """Let the server answer nothing for a time."""
    with _server(project, database) as (server, uri):
        process = _begin(project, rng, "tracking=server", uri)
        server.hang()
        time.sleep(rng.uniform(1.0, 40.0))
        server.wake()
        if error := _ended(process, 0):
            return error
    return _finished_whole(project) or "delivered by the run"


def server_away(project: Project, rng: random.Random, database: Path) -> str:
    """Let the server die for good; when it is there again, the next run or the command delivers."""
    with _server(project, database) as (server, uri):
        process = _begin(project, rng, "tracking=server", uri, "tracking.patience=3")
        begun = project.fakes.log.exists()
        server.die()
        _, stderr = process.communicate(timeout=300)
        if process.returncode != 1 or "Traceback" in stderr:
            return f"wrong: exit {process.returncode}: {stderr[-300:]}"
        if not begun and not project.fakes.log.exists():
            return "refused at the start, in a line"
        server.start()
        by_command = rng.random() < 0.5
        if by_command:
            if wrong := _delivered(project):
                return wrong
        elif error := _ended(project.start("tracking=server", uri, "seed=1"), 0):
            return error
    runs = _runs(project)
    if sorted(runs.values()) != ["FINISHED"] * (1 if by_command else 2):
        return f"wrong: {runs}"
    return f"failed at the end in a line; delivered by {'the command' if by_command else 'the next run'}"


def clock_back(project: Project, rng: random.Random, _: Path) -> str:
    """Let the system's clock go back, again and again, by up to ten days."""
    library = _clock(project.fakes.folder)
    if library is None:
        return "no C compiler here"
    project.environment |= {"LD_PRELOAD": str(library), "CLOCK_SEED": str(rng.randrange(10**6))}
    if error := _ended(project.start("tracking=mlflow", f"+stages.square.wait={WAIT}"), 0):
        return error
    return _finished_whole(project) or "recorded whole"


CASES: dict[str, Case] = {
    "killed, recorded": killed,
    "two runs in one folder": two_in_a_folder,
    "clock going back": clock_back,
    "database deleted": database_deleted,
    "database locked": database_locked,
    "database damaged": database_damaged,
    "server dies and returns": server_returns,
    "server hangs": server_hangs,
    "server stays away": server_away,
}

CLOCK = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdlib.h>
    #include <sys/time.h>
    #include <time.h>

    /* The real clock, set back by up to ten days at every hundredth look or so. */
    static time_t shift(void) {
        static unsigned state;
        static time_t back;
        if (!state) state = (unsigned)atoi(getenv("CLOCK_SEED")) + 1u;
        if (rand_r(&state) % 100 == 0) back += rand_r(&state) % 864000;
        return back;
    }

    int clock_gettime(clockid_t id, struct timespec *ts) {
        static int (*real)(clockid_t, struct timespec *);
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
        int code = real(id, ts);
        if (id == CLOCK_REALTIME) ts->tv_sec -= shift();
        return code;
    }
"""


def _clock(folder: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    (folder / "clock.c").write_text(textwrap.dedent(CLOCK))
    library = folder / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "clock.c", "-ldl"], check=True)
    return library


@contextmanager
def _server(project: Project, database: Path) -> Iterator[tuple[Server, str]]:
    """A server over the project's database, and the override that names it."""
    server = Server(project.folder, project.folder / "outputs" / "mlflow.db")
    server.start()
    try:
        yield server, f"tracking.uri={server.uri}"
    finally:
        server.die()


def _begin(project: Project, rng: random.Random, *overrides: str) -> subprocess.Popen[str]:
    """Begin a run, and wait for a random moment after its first stage has begun."""
    process = project.start(*overrides, f"+stages.square.wait={WAIT}")
    give_up = time.monotonic() + 120
    while not project.fakes.log.exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    time.sleep(rng.uniform(0.0, WAIT))
    return process


def _ended(process: subprocess.Popen[str], code: int) -> str:
    stdout, stderr = process.communicate(timeout=400)
    if process.returncode != code or "Traceback" in stderr + stdout:
        return f"wrong: exit {process.returncode}: {(stdout + stderr)[-400:]!r}"
    return ""


def _runs(project: Project) -> dict[str, str]:
    return dict(project.recorded("runs", "run_uuid, status"))


def _finished_whole(project: Project) -> str:
    """What is wrong where there is to be one finished run, with all that it found."""
    runs = _runs(project)
    if list(runs.values()) != ["FINISHED"]:
        return f"wrong: {runs}"
    return _recorded_whole(project, next(iter(runs)))


def _recorded_whole(project: Project, run: str) -> str:
    rows = project.recorded("latest_metrics", "run_uuid, key, value")
    recorded = {key: value for id_, key, value in rows if id_ == run}
    metrics = json.loads((project.runs()[-1] / "metrics.json").read_text())
    if recorded != metrics:
        return f"wrong: recorded {sorted(recorded.items() ^ metrics.items())[:4]}"
    if not [key for id_, key in project.recorded("params", "run_uuid, key") if id_ == run]:
        return "wrong: no parameters"
    left = list((project.folder / "outputs" / "pending").glob("*")) + list(project.runs()[-1].glob("*.jsonl"))
    return f"wrong: {left} is left" if left else ""


def _delivered(project: Project) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.deliver"],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    if done.returncode or "complete" not in done.stdout:
        return f"wrong: deliver: {(done.stdout + done.stderr)[-300:]!r}"
    return ""
