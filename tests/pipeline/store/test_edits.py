"""Edit a line somewhere below a stage: what it computed before is not served for it, and not lost."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def edit(project):
    """Write the helper that is two imports away from the stage *make*, which gives its number."""
    folder = project.fakes.folder
    (source,) = folder.glob("fake_stages_*.py")
    text = source.read_text().replace("Number(self.value", "Number(number()")
    source.write_text("from stages.fake_near import number\n" + text)
    (folder / "fake_near.py").write_text(
        "def number():\n    from stages.fake_far import FAR\n    return FAR\n"
    )

    def write(number: int) -> None:
        (folder / "fake_far.py").write_text(f"FAR = {number}\n")

    return write


def ran(project) -> list[str]:
    return [line for line in project.fakes.ran() if line in ("make", "square", "add")]


def square(project) -> float:
    return json.loads((project.runs()[-1] / "metrics.json").read_text())["square/value"]


def entries(project) -> dict[str, bytes]:
    folder = project.folder / "outputs" / "store" / "number"
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/value.txt")}


def test_an_edited_helper_two_imports_away_from_a_stage_recomputes(project, edit):
    for number, expected in ((3, ["make", "square", "add"]), (5, ["make", "square", "add"]), (3, [])):
        edit(number)
        code, _, stderr = project.run()
        assert (code, stderr) == (0, "")
        assert ran(project) == expected
        assert square(project) == number**2


def test_a_run_that_reuses_nothing_leaves_what_other_code_computed(project, edit):
    edit(3)
    project.run()
    before = entries(project)
    edit(5)
    project.run("store.reuse=false")
    after = entries(project)
    assert len(before) == 1 and len(after) == 2 and before.items() < after.items()
    ran(project)
    edit(3)
    project.run()
    assert ran(project) == [] and square(project) == 9
