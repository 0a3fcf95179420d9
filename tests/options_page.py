"""Write conf/README.md, every group, option and setting: ``python -m tests.options_page``.

What it says stands where the options are: comments of the YAML files, docstrings of the classes they name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).resolve().parents[1] / "conf"
PAGE = CONF / "README.md"
COMMAND = "python -m tests.options_page"
LEFT_OUT = ("defaults", "stages", "hydra", "benchmark_stages")
"""Keys of what is not a setting: how a run is put together."""
MOST = 20
"""Keys of a block that is shown whole; one of more is left to its file."""
INTRODUCTION = f"""# Groups, options, settings

*Written by `{COMMAND}` from the comments of these files and the docstrings of the classes
that they name.*

A choice is `group=option`, a setting `key=value` by its whole path:
`python -m pipeline calibration=percentile calibration.activation.percentile=99.9`.
`python -m pipeline --help` lists the groups; `python -m pipeline --cfg job --resolve` prints what is set.
Options of your own lie in a folder of yours, `my_conf/<group>/<name>.yaml`; `--config-dir my_conf` names it:
[a part of your own](../stages/README.md#a-part-of-your-own).

`???` has to be given. `${{a.b}}` is the value of `a.b`; `{{…}}` is too long for here: look into the file.
"""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A key of a YAML file: its path, its value as written, and what its comments say."""

    path: str
    value: str
    says: str


@dataclass(frozen=True, kw_only=True)
class Option:
    """A YAML file of the configuration."""

    file: Path
    text: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.file.read_text(encoding="utf-8"))

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def content(self) -> Mapping[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load(self.text) or {}
        return loaded

    @property
    def own(self) -> bool:
        """Whether its keys are the group's, not the whole configuration's."""
        return "@package _global_" not in self.text

    @cached_property
    def header(self) -> int:
        """How many lines of comment it begins with."""
        return next((i for i, line in enumerate(self.lines) if not line.startswith("#")), len(self.lines))

    @property
    def says(self) -> str:
        return " ".join(line[1:].strip() for line in self.lines[: self.header] if "@package" not in line)

    @property
    def based_on(self) -> list[str]:
        """What it takes over or chooses, as on a command line."""
        found = []
        for entry in self.content.get("defaults", []):
            if isinstance(entry, str):
                found += [entry] if entry != "_self_" else []
            else:
                for key, value in entry.items():
                    group = key.removeprefix("override ").removeprefix("/").partition("@")[0]
                    found.append(f"{group}={_written(value)}")
        return found

    @cached_property
    def settings(self) -> list[Setting]:
        tree = yaml.compose(self.text)
        return list(self._settings(tree, "")) if isinstance(tree, yaml.MappingNode) else []

    def _settings(self, tree: yaml.MappingNode, above: str) -> Iterator[Setting]:
        arguments: Mapping[str, str] = {}
        for key, value in tree.value:
            if key.value == "_target_":
                arguments = documented(value.value)[1]
        for key, value in tree.value:
            if key.value == "_target_" or (not above and key.value in LEFT_OUT):
                continue
            path = f"{above}{key.value}"
            block = isinstance(value, yaml.MappingNode) and not value.flow_style and bool(value.value)
            long = block and len(value.value) > MOST
            says = self._comment(key, value, block) or arguments.get(key.value, "")
            if re.match(r"(see|as) `", says):  # another docstring
                says = ""
            if long or not block:
                mark = (value.start_mark.index, value.end_mark.index)
                written = "{…}" if long else " ".join(self.text[slice(*mark)].split())
                if written.strip("${}") not in group_says():  # what another group chose
                    yield Setting(path=path, value=written, says=says)
                continue
            target = {k.value: v.value for k, v in value.value}.get("_target_")
            if target and (above or not only_target(self)):
                class_says = f"`{target.rpartition('.')[2]}`: {documented(target)[0]}"
                says = f"{says.rstrip('.')}. {class_says}" if says else class_says
            if says:
                yield Setting(path=path, value="", says=says)
            yield from self._settings(value, f"{path}.")

    def _comment(self, key: yaml.Node, value: yaml.Node, block: bool) -> str:
        """Comments above the key, beside it or its value, and indented below a value."""
        column, line, end = key.start_mark.column, key.start_mark.line, (key if block else value).end_mark
        above: list[str] = []
        for before in range(line - 1, self.header - 1, -1):
            if not re.match(rf" {{{column}}}#", self.lines[before]):
                break
            above.insert(0, self.lines[before].strip()[1:].strip())
        rest = self.lines[end.line][end.column :].lstrip(": ")
        beside = [rest[1:].strip()] if rest.startswith("#") else []
        for after in self.lines[end.line + 1 :]:
            if block or not re.match(rf" {{{column + 1},}}#", after):
                break
            beside.append(after.strip()[1:].strip())
        if above and beside and above[-1][-1] not in ".:;":
            above[-1] += "."
        return " ".join(above + beside)


def only_target(option: Option) -> str | None:
    """Where the file's one key holds a target, as options of a list do."""
    content = {key: value for key, value in option.content.items() if key not in LEFT_OUT}
    own = content.get(option.file.stem)
    return own.get("_target_") if len(content) == 1 and option.own and isinstance(own, dict) else None


def documented(target: str) -> tuple[str, dict[str, str]]:
    """What the docstring of a dotted name says: its first part, in one line, and each argument's."""
    module, _, name = target.rpartition(".")
    if not module.startswith(("stages", "pipeline")):
        return "", {}
    text = inspect.cleandoc(getattr(import_module(module), name).__doc__ or "").replace("``", "`")
    if not inspect.isclass(getattr(import_module(module), name)):  # of a function, how it is called
        text = "Args:\n" + text.partition("Args:\n")[2]
    head, _, rest = text.partition("Args:\n")
    arguments: dict[str, str] = {}
    for line in rest.splitlines():
        if found := re.match(r"    (\w+): (.*)", line):
            arguments[name := found[1]] = found[2]
        elif arguments and line.startswith("        "):
            arguments[name] += " " + line.strip()
        elif line and not line.startswith(" "):
            break
    return " ".join(re.split(r"\n(?:Raises:|Returns:| *==)", f"\n{head}")[0].split()), arguments


def group_says() -> dict[str, str]:
    """Each group's line among the defaults of config.yaml."""
    lines = (CONF / "config.yaml").read_text(encoding="utf-8").splitlines()
    return {
        found[1]: found[2]
        for line in lines
        if (found := re.match(r"  (?:# )?- (?:override )?([\w/]+): [^#]*# (.*)", line))
    }


def groups() -> dict[str, dict[str, Option]]:
    """Every group that a user chooses of, in config.yaml's order, with its options by name."""
    found: dict[str, dict[str, Option]] = {}
    for group in group_says():
        files = sorted((CONF / group).rglob("*.yaml"))
        found[group] = {
            path.relative_to(CONF / group).with_suffix("").as_posix(): Option(file=path) for path in files
        }
    return found


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "| group | what it decides | options |\n| --- | --- | --- |"]
    said, found = group_says(), groups()
    for group, options in found.items():
        names = " ".join(f"`{name}`" for name in options)
        parts[-1] += f"\n| [`{group}`](#{group.replace('/', '')}) | {_cell(said[group])} | {names} |"
    for group, options in found.items():
        parts += _group(group, said[group], options)
    parts += ["## Settings of every run", "Those of [config.yaml](config.yaml) outside the groups."]
    own = [s for s in Option(file=CONF / "config.yaml").settings if s.path.split(".")[0] not in found]
    parts.append(_table(own, ""))
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _group(group: str, says: str, options: Mapping[str, Option]) -> Iterator[str]:
    yield f"## {group}"
    yield f"{says[0].upper()}{_text(says[1:])}."
    shared = _shared(options)
    targets = {option.content.get("_target_") for option in options.values()}
    for name, option in options.items():
        yield f"### {group}={name}"
        yield _text(option.says)
        target = option.content.get("_target_") or only_target(option)
        one_of_many = len(targets) > 1 or target not in targets
        if target and one_of_many and (about := documented(target)[0]) and about != option.says:
            yield f"`{target.rpartition('.')[2]}`: {_text(about)}"
        if option.based_on:
            yield "Takes over " + ", ".join(f"`{one}`" for one in option.based_on) + "."
        prefix = f"{group}." if option.own and not group.startswith("hydra/") else ""
        if group.startswith("hydra/"):
            prefix = f"hydra.{group.partition('/')[2]}."
        settings = [one if one.says else _taken_over(one, option, options) for one in option.settings]
        yield _table([one for one in settings if one not in shared], prefix)
    if shared:
        yield f"### {group}: settings of every option"
        yield _table(shared, f"{group}.")


def _taken_over(setting: Setting, option: Option, options: Mapping[str, Option]) -> Setting:
    """The setting with the words of the option that `option` begins with."""
    for name in option.based_on:
        for one in options[name].settings if name in options else []:
            if one.path == setting.path:
                said = one if one.says else _taken_over(one, options[name], options)
                return replace(setting, says=said.says)
    return setting


def _shared(options: Mapping[str, Option]) -> list[Setting]:
    """Settings that all of three or more options have, with the same value and words."""
    if len(options) < 3:
        return []
    first, *rest = options.values()
    return [one for one in first.settings if all(one in other.settings for other in rest)]


def _table(settings: list[Setting], prefix: str) -> str:
    if not settings:
        return ""
    rows = [
        f"| `{prefix}{one.path}` | {f'`{_pipe(one.value)}`' if one.value else ''} | {_cell(one.says)} |"
        for one in settings
    ]
    return "\n".join(["| setting | default | |", "| --- | --- | --- |", *rows])


def _cell(text: str) -> str:
    return _pipe(_text(text))


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")


def _text(text: str) -> str:
    """With what Markdown would take as tags made text, and commands made code."""
    value = r"(?:\[[^\]]*\]|[^\s;,]*[^\s;,:.])"
    text = re.sub(rf"(?<!`)python -m pipeline(?:\.\w+)?(?: -m| [^\s=]+={value})*", r"`\g<0>`", text)
    return re.sub(r"`[^`]*`|<", lambda found: "\\<" if found[0] == "<" else found[0], text)


def _written(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
