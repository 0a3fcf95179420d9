"""Folders of the user's with our packages' names: the configuration is found, hidden code is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def started(folder, *command):
    # the folder of the command first, as `python -m` has it; then ours, as an installation has it
    code = f"import sys; sys.path[:0] = ['', {str(ROOT)!r}]; from pipeline.__main__ import command; "
    arguments = [sys.executable, "-c", code + "sys.exit(command())", *command]
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("inside", [["x.yaml"], ["__init__.py"], ["config.yaml", "model/mine.yaml"]])
def test_a_folder_conf_of_the_users_does_not_hide_the_configuration(tmp_path, inside):
    for name in inside:
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    run = started(tmp_path, "--cfg", "job", "-p", "quantizer.weight.bits")
    assert (run.returncode, run.stderr) == (0, "") and "8" in run.stdout


@pytest.mark.parametrize("name", ["stages.py", "stages/__init__.py"])
def test_what_hides_our_code_is_named(tmp_path, name):
    hiding = tmp_path / name
    hiding.parent.mkdir(exist_ok=True)
    hiding.touch()
    run = started(tmp_path, "--cfg", "job")
    assert run.returncode == 1 and run.stdout == ""
    found = hiding if name == "stages.py" else hiding.parent
    assert run.stderr.startswith(f"{found} hides the pipeline's own package stages ({ROOT / 'stages'})")
    assert "Remedy: give it another name, or start the command in another folder" in run.stderr


def test_a_script_imports_from_the_folder_it_starts_in_after_all_others(tmp_path, monkeypatch):
    from pipeline.place import see_the_users_folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    see_the_users_folder()
    see_the_users_folder()
    assert sys.path == ["/elsewhere", str(tmp_path)]
