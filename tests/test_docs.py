"""The pages say what is there: their commands build, their links lead somewhere, their examples run."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import pipeline.check
import pipeline.compare.__main__
import pipeline.deliver
import pipeline.serve
import pipeline.store.command
from tests.composed import built
from tests.options_page import COMMAND, PAGE, groups, page

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", PAGE, ROOT / "pipeline" / "README.md", *sorted(ROOT.glob("stages/**/README.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
README = TEXTS["README.md"]
YOURS = {"mine", "mixed", "sample_mean"}
"""Options of a user's own, which the pages name."""
GIVEN_APART = {
    "check": set(),
    "export": {"program", "to"},
    "predict": {"program", "input", "top", "batch_size", "task", "preprocessing"},
    "probe": set(),
}
"""The commands that take a run's overrides, and the keys that are not the configuration's."""
PLAIN = {
    "compare": pipeline.compare.__main__.main,
    "deliver": pipeline.deliver.main,
    "serve": pipeline.serve.main,
    "store": pipeline.store.command.main,
}
"""The others, whose arguments are read before anything is done."""
ELSEWHERE = ("timm.create_model", "mine.sentence_encoder", "mine.MyDataset")
"""What the pages name and do not show."""
NOT_LISTED = {"data=image_folder"}
"""A former name."""


def blocks(text: str, language: str) -> list[str]:
    """What stands in the fences of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def files(text: str) -> dict[str, str]:
    """Files that a page shows whole, by the path in their first line's comment."""
    shown = [*blocks(text, "python"), *blocks(text, "yaml")]
    return {found[1]: block for block in shown if (found := re.match(r"# ([\w/]+\.(?:py|yaml))\b", block))}


def commands(text: str) -> Iterator[list[str]]:
    """The words after ``python -m pipeline`` of each command: the module's ending, and its arguments."""
    fenced = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    inline = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for line in [*fenced.splitlines(), *inline]:
        plain = re.sub(r"<[^<>]*>", "given", line)
        for one in plain.split("&&"):
            words = shlex.split(one, comments=True) if "python -m pipeline" in one else []
            if words[1:2] == ["-m"] and words[2].partition(".")[0] == "pipeline":
                yield [words[2].partition(".")[2], *words[3:]]


COMMANDS = sorted({(path, *words) for path, text in TEXTS.items() for words in commands(text)})


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """A folder with the files that the pages show, and those that they only name."""
    for text in TEXTS.values():
        for path, content in files(text).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content, encoding="utf-8")
    (tmp_path / "my_package" / "__init__.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass\nclass Mine:\n    width: int\n\n"
        "    def build(self, shape, num_classes):\n        raise NotImplementedError\n"
    )
    mixed = tmp_path / "my_conf" / "quantizer" / "mixed.yaml"
    mixed.parent.mkdir()
    mixed.write_text((ROOT / "conf" / "quantizer" / "symmetric.yaml").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine", "my_package")]:
        del sys.modules[name]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_options_page_is_what_would_be_written():
    assert PAGE.read_text(encoding="utf-8") == page(), f"conf/README.md is out of date. Remedy: {COMMAND}"


def test_every_group_and_option_is_described():
    described = re.findall(r"^### (\S+=\S+)$", TEXTS["conf/README.md"], re.MULTILINE)
    assert described == [f"{group}={option}" for group, options in groups().items() for option in options]
    in_conf = {path.parent.name for path in PAGE.parent.glob("*/*.yaml")} - {"hydra"}
    assert in_conf | {"experiment"} == {group for group in groups() if not group.startswith("hydra/")}


def test_the_readme_lists_every_option():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", README, re.MULTILINE))
    for group, options in groups().items():
        if group in ("column", "experiment") or group.startswith("hydra/"):
            continue
        listed = set(re.findall(r"`(\w+)`", rows[group]))
        assert {o for o in options if f"{group}={o}" not in NOT_LISTED} <= listed, group
        known = set(options) | (set(groups()["backend"]) if group == "runtimes" else set())
        assert listed <= known, group


@pytest.mark.parametrize("path", TEXTS)
def test_options_that_are_named_exist(path):
    known = {group: set(options) | YOURS for group, options in groups().items()}
    known["runtimes"] |= known["backend"] | {"all"}
    known["export"] |= {"all"}
    known["hydra/sweeper"] |= {"optuna"}  # the plugin's
    found = re.findall(rf"(?<![\w./])({'|'.join(known)})=(?:\[([\w,]*)\]|([\w,/]+))", TEXTS[path])
    for group, listed, plain in found:
        for name in filter(None, (listed or plain).split(",")):
            assert name in known[group] | {"null", "NAME"}, f"{group}={name}"


def test_commands_are_found():
    assert len(COMMANDS) > 40
    assert {words[1] for words in COMMANDS} == {*GIVEN_APART, "", *PLAIN}


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[1:])[:80])
def test_a_command_builds(words, users_folder, capsys, monkeypatch):
    _, module, *arguments = words
    if module in PLAIN:
        monkeypatch.setattr(sys, "argv", [module, *arguments, "--no-such-option"])
        with pytest.raises(SystemExit):
            PLAIN[module]()
        assert "--no-such-option: no such argument; " in capsys.readouterr().err  # and nothing else
        return
    own = GIVEN_APART.get(module, set())
    overrides = [f"hydra.searchpath=[file://{users_folder / 'my_conf'}]"]
    parser = OverridesParser.create()
    values = []
    skipped = False
    for word in arguments:
        if skipped or word.startswith("-"):
            skipped = word in ("--config-dir", "--cfg")  # the next is its value
        elif word.partition("=")[0] not in own:
            for name in ELSEWHERE:
                word = word.replace(name, "torch.nn.Identity")
            override = parser.parse_override(word)
            swept = override.sweep_string_iterator() if override.is_sweep_override() else None
            values.append([f"{override.get_key_element()}={one}" for one in swept] if swept else [word])
    for combination in itertools.product(*values):
        built(*overrides, *combination)


@pytest.mark.parametrize("path", TEXTS)
def test_links_lead_to_files_and_headings(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", TEXTS[path]):
        if target.startswith("http"):
            continue
        file = (ROOT / path).parent / target if target else ROOT / path
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file.read_text(encoding="utf-8")), f"{target}#{anchor}"


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", TEXTS)
def test_files_that_are_named_exist(path):
    rooms = "|".join(child.name for child in (ROOT / "stages").iterdir() if child.is_dir())
    named = rf"`((?:stages|pipeline|conf|tests|{rooms})/(?:[\w/]*/|[\w/]+\.\w+)?)`"
    for name in re.findall(named, TEXTS[path]):
        assert (ROOT / name).exists() or (ROOT / "stages" / name).exists(), name


def test_the_readmes_network_runs_on_integers(users_folder, capsys):
    words = next(one for one in commands(README) if one[0] == "check" and "model=torch" in one)
    assert pipeline.check.main(words[1:]) == 0
    assert "conv" in capsys.readouterr().out


def test_a_part_of_ones_own_runs(users_folder):
    """The example of stages/README.md, as it stands there, on the digits, hardly trained."""
    words = next(one for one in commands(TEXTS["stages/README.md"]) if "calibration=sample_mean" in one)
    quick = ["training.float.epochs=1", "tracking=none", "stages.speed=null", "hydra.run.dir=run"]
    environment = os.environ | {"PYTHONPATH": f"{users_folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *words[1:], *quick],
        cwd=users_folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "margin: 1.05" in (users_folder / "run" / ".hydra" / "config.yaml").read_text()
    assert (users_folder / "run" / "program").is_dir()
