"""YAML that stands for more than it says."""

from __future__ import annotations

import os
import time

import pytest

from pipeline.configuration.bounds import MAX_BYTES, MAX_NODES, check_folders, read_yaml
from pipeline.errors import ConfigError

LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: &a {b: *a}",
        "- &a [*a]",
        LAUGHS.replace("[", "{<<: [").replace("]", "]}").replace("lol, lol", "{x: 1}"),
    ],
)
def test_aliases_are_counted_as_what_they_stand_for(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=rf"a.yaml: its aliases \(\*name\) stand for more than {MAX_NODES}"):
        read_yaml(tmp_path / "a.yaml")
    assert time.perf_counter() - start < 1


def test_aliases_in_proportion_are_read(tmp_path):
    text = "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert read_yaml(tmp_path / "a.yaml") == text
    (tmp_path / "b.yaml").write_text("")
    assert read_yaml(tmp_path / "b.yaml") == ""


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"a: *b", b"[" * 600, b"a: \x00"])
def test_what_is_no_yaml_is_named(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a.yaml: cannot be read as YAML \(.+\)$"):
        read_yaml(tmp_path / "a.yaml")


def test_a_file_is_regular_and_of_a_size_in_proportion(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="is no regular file"):
        read_yaml(tmp_path / "a.yaml")
    with (tmp_path / "b.yaml").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigError, match=f"has {MAX_BYTES + 1} bytes: a configuration has at most"):
        read_yaml(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config-dir", "{}"],
        ["--config-dir={}"],
        ["-cd", "{}", "seed=1"],
        ["hydra.searchpath=[file://{}]"],
        ["hydra.searchpath=[pkg://conf,{}]"],
    ],
)
def test_folders_that_a_command_line_names_are_checked(tmp_path, arguments):
    (tmp_path / "model").mkdir()
    given = [argument.format(tmp_path) for argument in arguments]
    check_folders(given)
    (tmp_path / "model" / "evil.yaml").write_text(LAUGHS)
    with pytest.raises(ConfigError, match=r"model/evil.yaml: its aliases"):
        check_folders(given)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config-dir", "nowhere"],
        ["--config-dir=nowhere", "seed=1"],
        ["-cd", "nowhere"],
        ["hydra.searchpath=[file://nowhere]"],
    ],
)
def test_a_folder_of_options_that_is_not_there_is_refused(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^--config-dir nowhere: no such folder .*Remedy: the folder"):
        check_folders(arguments)
    (tmp_path / "nowhere").mkdir()
    check_folders(arguments)
