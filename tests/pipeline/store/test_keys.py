"""What takes part in a key, and that the code of the user's own components does."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.store.keys import describe, identity, key_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Color(Enum):
    RED = 1


@dataclass(frozen=True)
class Inner:
    color: Color = Color.RED
    path: Path = Path("a/b")
    bits: tuple[int, ...] = (8, 4)


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    progress: bool = field(default=True, metadata={"key": False})

    def fingerprint(self) -> str:
        return "content"


@given(JSON)
def test_the_key_does_not_depend_on_the_order_of_a_mapping(value):
    """Canonical: the key of a mapping equals the key of its reverse, after a trip through JSON too."""
    mapping = {"a": value, "b": 1}
    assert (
        key_of(mapping) == key_of(dict(reversed(mapping.items()))) == key_of(json.loads(json.dumps(mapping)))
    )


@given(JSON, JSON)
def test_different_values_have_different_keys(a, b):
    """Injective up to JSON: the keys agree exactly where the canonical texts do."""
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (key_of({"v": a}) == key_of({"v": b})) == same


def test_a_component_is_described_by_class_fields_and_fingerprint():
    assert describe(Outer()) == {
        "_target_": f"{__name__}.Outer",
        "inner": {"_target_": f"{__name__}.Inner", "color": "RED", "path": "a/b", "bits": [8, 4]},
        "fingerprint": "content",
    }
    assert describe(Outer(progress=False)) == describe(Outer())


def test_what_cannot_be_described_is_refused_by_name():
    with pytest.raises(
        PipelineError, match=r"train\.x\[1\]: a builtins\.object cannot be part of a cache key"
    ):
        describe({"x": [1, object()]}, "train")


def test_the_source_of_nested_components_is_part_of_a_stage_identity(fakes):
    other = fakes.folder / "users_own.py"
    other.write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Net:\n    width: int = 1\n"
    )
    import users_own

    stage = fakes.Make(value=users_own.Net())
    assert {fakes.module.__name__, "users_own"} < set(identity(stage, threads=1)["code"])


def test_versions_of_libraries_and_python_are_part_of_an_identity(fakes):
    libraries = identity(fakes.Make(), threads=1)["libraries"]
    assert libraries["numpy"] == version("numpy")
    assert libraries["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_the_thread_count_is_part_of_the_identity_of_stages_that_say_so(fakes):
    class Trains(fakes.Make):
        depends_on_threads = True

    assert identity(fakes.Make(), threads=1) == identity(fakes.Make(), threads=2)
    assert [identity(Trains(), threads=n)["threads"] for n in (1, 2)] == [1, 2]


@pytest.mark.parametrize(("device", "counted"), [("cpu", None), ("cuda", "cuda"), ("cuda:1", "cuda")])
def test_another_device_than_a_cpu_counts_where_a_stage_computes_on_it(device, counted):
    @dataclass(frozen=True)
    class Uses(Outer):
        name = "uses"
        uses_device = True

    @dataclass(frozen=True)
    class Ignores(Outer):
        name = "ignores"

    assert identity(Uses(), 1, device=device).get("device") == counted
    assert "device" not in identity(Ignores(), 1, device=device)


def test_keys_that_are_numbers_count_like_the_texts_that_json_makes_of_them():
    assert key_of({"layers": {0: "a", "b": 1}}) == key_of({"layers": {"0": "a", "b": 1}})
    assert key_of({"layers": [{1: 2}]}) == key_of({"layers": [{"1": 2}]}) != key_of({"layers": [{"2": 1}]})
