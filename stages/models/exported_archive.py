"""A ``.pt2`` archive of `torch.export.save`, made safe to load.

``torch.export.load`` trusts its file: weights, constants and sample inputs may be pickles that run code,
symbolic sizes and guards are text that Python evaluates, names become part of such text, operators are any
name beneath ``torch``, and an archive may hold compiled libraries. So an archive is read here as data, what
could run code is refused, and a new archive is made of the rest, which is all that torch sees.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from itertools import filterfalse
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import PipelineError
from stages.models.checkpoint_file import check_ratio, torchscript_refusal

MODEL = "models/model.json"
SAMPLES = "data/sample_inputs/model.pt"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
PICKLES = ("data/weights/model.pt", "data/constants/model.pt")
"""Where torch 2.8 keeps tensors: two files of `torch.save`, in the place of a file a tensor."""

_PLAIN = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")

_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims)\.\w+(\.\w+)?|torch\.sym_\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_)"
)
_WRITES = ("torch.ops.aten.from_file",)  # maps a file, which it may create
_SYMBOL = re.compile(r"Symbol\('[a-z]+\d+'(, \w+=(True|False))*\)")
_WORDS = re.compile(
    r"[su]\d+|Add|Mul|Pow|Integer|Rational|(Python)?Mod|(Floor|Ceil|Clean|IntTrue)Div|Max|Min|Eq|Ne|Ge|Gt|Le|Lt"
    r"|(Un|E)quality|(Strict)?(Less|Greater)Than|And|Or|Not|True|False|true|false|evaluate|int_oo"
)
_SIGNS = re.compile(r"[\w\s+\-*/(),<>=]*")
_NAME = re.compile(r"""[\w .,:<>\[\]{}"\\/+*-]*""")
"""Names become Python text when a module is made of a graph: no calls, assignments, ends of lines."""

_NO_CODE = ("as_string", "as_strings", "nn_module_stack")
"""Where text does not become Python's, or in quotes."""


def safe_archive(path: Path) -> io.BytesIO:
    """The archive at `path`, without anything that could run code.

    Raises:
        PipelineError: no such file, another kind of file, or one that needs code to be loaded.
    """
    members = _members(path)
    for name in CONFIGS:
        if name not in members:
            continue
        config = _json(path, name, members[name]).get("config")
        if not isinstance(config, dict) or not all(isinstance(entry, dict) for entry in config.values()):
            raise _refused(path, f"its member '{name}' does not list tensors")
        for tensor, entry in config.items():
            # `tensor_`: the prefix of what are tensors; others are objects with code of their own
            if entry.get("use_pickle") or not str(entry.get("path_name")).startswith(("weight_", "tensor_")):
                raise _refused(path, f"'{tensor}' is stored as a pickle, which can run code")
    for name in (SAMPLES, *PICKLES):
        if name in members:
            members[name] = _plain(path, name, members[name])
    model = _json(path, MODEL, members[MODEL])
    _check(path, model)
    members[MODEL] = json.dumps(model).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    made.seek(0)
    return made


def _plain(path: Path, name: str, content: bytes) -> bytes:
    """A member by `torch.save` that holds tensors alone, written anew."""
    try:
        held = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # of many types, where it is damaged
        what = name.split("/")[1].replace("_", " ")
        raise _refused(
            path, f"its {what} ({name}) are more than tensors, as a pickle, which can run code, or damaged"
        ) from error
    written = io.BytesIO()
    torch.save(held, written)
    return written.getvalue()


def _members(path: Path) -> dict[str, bytes]:
    """What the network consists of, by name within the archive."""
    if not path.is_file():
        raise PipelineError(
            f"model.path={path}: no such file (looked in {Path.cwd()}).\n"
            "Remedy: give model.path=<file.pt2>, as torch.export.save wrote it"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            check_ratio(archive.infolist(), path, f"model.path={path}")
            names = {name.partition("/")[2]: name for name in archive.namelist()}
            if "constants.pkl" in names:
                raise PipelineError(torchscript_refusal(f"model.path={path}", path))
            if MODEL not in names or SAMPLES not in names:
                raise _refused(path, "it holds no exported program of this version of torch")
            tensors = tuple(
                n for n in names if re.fullmatch(r"data/(weights|constants)/(weight|tensor)_\d+", n)
            )
            kept = (MODEL, SAMPLES, *CONFIGS, *PICKLES, *_PLAIN, *tensors)
            return {name: archive.read(names[name]) for name in kept if name in names}
    except PipelineError:
        raise
    except Exception as error:  # of any bytes, of many types: RuntimeError, NotImplementedError, zlib's
        raise _refused(path, f"it is no archive of torch.export.save ({error})") from error


def _json(path: Path, name: str, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"its member '{name}' is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise _refused(path, f"its member '{name}' is no mapping")
    return found


def _check(path: Path, model: dict[str, Any]) -> None:
    """Refuse operators that are not ATen's, and text that is more than a size or a name.

    Takes out of `model` what loading does without: guards, and all metadata but the modules' paths.
    """
    model.pop("guards_code", None)  # Python text
    for key, value in _walk(model):
        if key == "metadata" and isinstance(value, dict):
            kept = {name: text for name, text in value.items() if name == "nn_module_stack"}
            value.clear()
            value.update(kept)
        elif key == "range_constraints" and isinstance(value, dict):
            for text in filterfalse(_is_size, value):
                raise _refused(path, f"a size is given by '{text}', which is no plain expression")
        elif not isinstance(value, str) or key in _NO_CODE:
            continue
        elif key == "target" and (not _TARGETS.fullmatch(value) or value.startswith(_WRITES)):
            raise _refused(path, f"it calls '{value}', and only operators of ATen are loaded")
        elif key == "expr_str":
            if not _is_size(value):
                raise _refused(path, f"a size is given by '{value}', which is no plain expression")
        elif not _NAME.fullmatch(value) or "default_factory_module" in value:
            raise _refused(path, f"'{value}' stands where a name should")


def _is_size(text: str) -> bool:
    """Whether an expression that torch evaluates is one of numbers and symbols, as ``2*s0`` or longer."""
    rest = _SYMBOL.sub("", text)
    words = re.findall(r"[A-Za-z_]\w*", rest)
    return _SIGNS.fullmatch(rest) is not None and all(_WORDS.fullmatch(word) for word in words)


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in nested JSON with the key it stands under."""
    yield key, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _walk(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, key)


def _refused(path: Path, why: str) -> PipelineError:
    return PipelineError(
        f"model.path={path}: {why}.\n"
        "Remedy: export the network again, torch.export.save(torch.export.export(module.eval(), (example,), "
        "dynamic_shapes=({0: torch.export.Dim('batch')},)), 'net.pt2'), or give its class: model=torch "
        "model.target=my_package.Net"
    )
