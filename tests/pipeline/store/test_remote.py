"""A store by address: whole entries, verified, whoever wrote them; trouble costs work, never correctness."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import fsspec
import pytest

from pipeline.configuration.schema import StoreConfig
from pipeline.errors import PipelineError
from pipeline.runner import run_stages
from pipeline.store.local import Store
from pipeline.store.remote import RemoteStore, open_store

MADE_FROM = {"stage": "make"}


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/remote"


@pytest.fixture
def machine(tmp_path, url, warnings):
    """Makes the store of a machine of its own."""

    def make(name: str) -> RemoteStore:
        return RemoteStore(Store(tmp_path / name, warn=warnings.append), url, warn=warnings.append)

    return make


@pytest.fixture
def remote(url):
    """The address as a dict of its files."""
    system, root = fsspec.core.url_to_fs(url)

    class Files(dict):
        def change(self, name: str, content: bytes) -> None:
            system.pipe_file(f"{root}/{name}", content)

        def read(self) -> dict[str, bytes]:
            paths = system.find(root) if system.exists(root) else []
            return {str(path).split(root.strip("/") + "/")[1]: system.cat_file(path) for path in paths}

    return Files()


def test_what_one_machine_computes_another_one_takes(fakes, context, machine, remote, warnings):
    stages = [fakes.Make(), fakes.DoSquare(), fakes.Add(), fakes.Show()]
    first = run_stages(stages, context(store=machine("a")))
    assert fakes.ran().count("square") == 1
    second = run_stages(stages, context(store=machine("b")))
    assert fakes.ran() == ["load square", "check show", "load sum", "show"]
    assert first["square/value"] == second["square/value"]
    assert first["make/loss"] == second["make/loss"] == 0.25  # what a stage records comes with its artifact
    assert [second[f"stage/{name}/cached"] for name in ("make", "square", "add")] == [1, 1, 1]
    assert sorted(name.split("/")[0] for name in remote.read()) == ["files"] * 3 + ["number", "square", "sum"]
    assert warnings == []


def test_an_entry_is_there_only_with_its_manifest(fakes, machine, remote, tmp_path):
    a, b = machine("a"), machine("b")
    ref = a.save("number", "key", fakes.Number(3.0), made_from=MADE_FROM, seconds=1)
    found = b.find("number", "key")
    assert (found.sha256, found.path) == (ref.sha256, tmp_path / "b" / "number" / "key")
    assert fakes.Number.load(found.path).value == 3.0
    assert json.loads(remote.read()["number/key.json"])["made_from"] == MADE_FROM
    assert machine("c").find("number", "other") is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda name, content: b"4.0" if name.startswith("files/") else None, "its sha256 is not"),
        (lambda name, content: b"{" if name.endswith(".json") else None, "could not download number"),
        (
            lambda name, content: content.replace(b'"key": "key"', b'"key": "kez"'),
            "of another entry, number/kez",
        ),
        (lambda name, content: content.replace(b"value.txt", b"../../x"), "names a file outside the entry"),
        (lambda name, content: content.replace(b"value.txt", b"/tmp/abc"), "names a file outside the entry"),
    ],
)
def test_what_is_damaged_is_said_and_computed_again(fakes, machine, remote, warnings, change, text):
    machine("a").save("number", "key", fakes.Number(3.0), made_from=MADE_FROM, seconds=1)
    for name, content in remote.read().items():
        changed = change(name, content)
        if changed is not None:
            remote.change(name, changed)
    b = machine("b")
    assert b.find("number", "key") is None
    assert len(warnings) == 1 and text in warnings[0] and "will be computed" in warnings[0]
    b.save("number", "key", fakes.Number(3.0), made_from=MADE_FROM, seconds=1)
    assert fakes.Number.load(b.find("number", "key").path).value == 3.0


def test_machines_that_compute_the_same_at_once_leave_one_whole_entry(fakes, machine, warnings):
    a, b = machine("a"), machine("b")
    for store, value in ((a, 3.0), (b, 5.0)):  # as a measurement differs from run to run
        store.save("number", "key", fakes.Number(value), made_from=MADE_FROM, seconds=1)
    assert fakes.Number.load(machine("c").find("number", "key").path).value == 5.0
    assert fakes.Number.load(a.find("number", "key").path).value == 3.0
    assert warnings == []


def test_an_address_that_fails_costs_work_alone(fakes, context, tmp_path, warnings):
    remote = tmp_path / "remote"
    store = RemoteStore(Store(tmp_path / "a"), f"file://{remote}", warn=warnings.append)
    remote.write_text("a file where the folder should be")
    run_stages([fakes.Make()], context(store=store))
    assert fakes.ran().count("make") == 1
    assert len(warnings) == 1 and "could not upload number, which other machines will compute" in warnings[0]


def test_the_path_chooses_the_store(tmp_path):
    assert isinstance(open_store(StoreConfig(path=str(tmp_path))), Store)
    assert isinstance(open_store(StoreConfig(path="memory://x", cache=tmp_path)), RemoteStore)
    with pytest.raises(
        PipelineError, match=r"store.path=nonsense://x: .*; give a folder, or an address as s3"
    ):
        open_store(StoreConfig(path="nonsense://x"))


def test_a_run_by_the_command_line_takes_what_another_machine_stored(project):
    address = f"store.path=file://{project.folder}/shared"
    assert project.run(address, "store.cache=a")[0] == 0
    project.fakes.ran()
    code, stdout, _ = project.run(address, "store.cache=b")
    assert (code, stdout.count("cached")) == (0, 3)
    shutil.rmtree(project.folder / "shared")
    assert project.run(address, "store.cache=b")[1].count("cached") == 3
    assert Path(project.folder / "b" / "square").is_dir()
