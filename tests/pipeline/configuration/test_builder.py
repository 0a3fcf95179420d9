"""The checked builder: what it builds, and what it says of what it cannot."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.configuration.builder import Builder
from pipeline.configuration.components import is_component
from pipeline.configuration.schema import RunConfig
from pipeline.errors import ConfigError, PipelineError
from stages.data.array_files import split_name
from stages.data.arrays import arrays

COMPONENTS = """
    from __future__ import annotations
    from collections.abc import Callable, Mapping
    from dataclasses import dataclass, field
    from enum import Enum
    from pathlib import Path
    from typing import Literal, Protocol, runtime_checkable


    class Rounding(Enum):
        HALF_EVEN = "half_even"
        STOCHASTIC = "stochastic"


    @runtime_checkable
    class Scheme(Protocol):
        '''A grid.

        Example::

            class Mine:
                def levels(self): return 4
        '''

        def levels(self) -> int: ...


    @dataclass(frozen=True, kw_only=True)
    class Affine:
        bits: int
        signed: bool = False
        rounding: Rounding = Rounding.HALF_EVEN

        def __post_init__(self) -> None:
            if not 2 <= self.bits <= 8:
                raise ValueError(f"bits={self.bits}: must be 2..8")

        def levels(self) -> int:
            return 2**self.bits


    @dataclass(frozen=True, kw_only=True)
    class Later:
        make: Callable[..., object] | None = None


    @dataclass(frozen=True, kw_only=True)
    class Pair:
        weight: Scheme
        activation: Scheme | None = None
        corrections: tuple[Scheme, ...] = ()


    @dataclass(frozen=True, kw_only=True)
    class Train:
        rate: float = 0.1
        shape: tuple[int, int] = (1, 1)
        mode: Literal["fast", "slow"] = "fast"
        folder: Path = Path(".")
        quantizer: Pair | None = None


    @dataclass(frozen=True, kw_only=True)
    class Shelf:
        first: Affine | None = None
        named: Mapping[str, Affine | None] = field(default_factory=dict)


    def function(width: int = 8, **others: object) -> dict[str, object]:
        return {"width": width, **others}
"""

MODULE = "parts_of_test_build"


@pytest.fixture(scope="module", autouse=True)
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    (folder / f"{MODULE}.py").write_text(textwrap.dedent(COMPONENTS))
    sys.path.insert(0, str(folder))
    yield __import__(MODULE)
    sys.path.remove(str(folder))


def builder(text: str) -> Builder:
    return Builder(
        OmegaConf.create(textwrap.dedent(text).replace("@", f"_target_: {MODULE}.")), trusted=(MODULE,)
    )


def build(text: str):
    made = builder(text)
    built = made.build()
    made.raise_problems()
    return built


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        build(text)
    title, *lines = str(error.value).splitlines()
    count = len(lines)
    assert title == f"the configuration has {count} problem{'s' if count > 1 else ''}:"
    return [line.strip() for line in lines]


def test_components_are_built_recursively_with_the_types_of_their_annotations(parts):
    built = build("""
        quantizer:
          @Pair
          weight: {@Affine, bits: '8', rounding: STOCHASTIC}
          corrections: [{@Affine, bits: 2}, {@Affine, bits: 3}]
        train: {@Train, rate: 1e-5, shape: [3, 4], mode: slow, folder: data/x, quantizer: '${quantizer}'}
    """)
    pair = built["quantizer"]
    assert pair.weight == parts.Affine(bits=8, rounding=parts.Rounding.STOCHASTIC)
    assert pair.corrections == (parts.Affine(bits=2), parts.Affine(bits=3))
    assert built["train"] == parts.Train(
        rate=1e-5, shape=(3, 4), mode="slow", folder=Path("data/x"), quantizer=pair
    )
    assert built["train"].quantizer is pair  # one instance, however often referred to


def test_groups_of_values_become_the_dataclasses_that_the_annotation_asks_for(parts):
    built = build("""
        shelf:
          @Shelf
          first: {bits: 2}
          named: {a/b: {bits: '3', signed: true}, c: null, d: {@Affine, bits: 4}}
    """)["shelf"]
    assert built.first == parts.Affine(bits=2)
    assert built.named == {
        "a/b": parts.Affine(bits=3, signed=True),
        "c": None,
        "d": parts.Affine(bits=4),
    }
    assert problems("""
        shelf: {@Shelf, first: {bit: 2}, named: {a/b: {bits: x}, c: {}, d: {bits: 9}, e: 5}}
    """) == [
        "shelf.first.bit: unknown key; did you mean 'bits'? valid: bits, rounding, signed",
        "shelf.first.bits: mandatory value missing; give shelf.first.bits=…",
        "shelf.named.a/b.bits: expected int, got 'x' (str)",
        "shelf.named.c.bits: mandatory value missing; give shelf.named.c.bits=…",
        "shelf.named.d.bits=9: must be 2..8",
    ]
    assert problems("shelf: {@Shelf, named: null}") == ["shelf.named: expected a mapping, got null"]


def test_all_problems_are_reported_together_each_with_path_and_remedy():
    assert problems("""
        quantizer:
          @Pair
          weight: {@Affine, bitz: 8}
          activation: {@Affine, bits: 9}
        train:
          @Train
          rate: fast
          shape: [1, 2, 3]
          mode: fst
          quantizer: ${quantizer}
        other: {@Train, quantizer: 7, folder: null, rate: true}
    """) == [
        "quantizer.weight.bitz: unknown key; did you mean 'bits'? valid: bits, rounding, signed",
        "quantizer.weight.bits: mandatory value missing; give quantizer.weight.bits=…",
        "quantizer.activation.bits=9: must be 2..8",
        "train.rate: expected float, got 'fast' (str)",
        "train.shape: expected a list of 2 values, got 3",
        "train.mode: 'fst' is not a choice; did you mean 'fast'? valid: fast, slow",
        "other.quantizer: expected Pair, got 7 (int)",
        "other.folder: expected Path, got null",
        "other.rate: expected float, got True (bool)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: {@Affine, bits: true}", "a.bits: expected int, got True (bool)"),
        ("a: {@Affine, bits: 8.0}", "a.bits: expected int, got 8.0 (float)"),
        ("a: {@Affine, bits: '8.5'}", "a.bits: expected int, got '8.5' (str)"),
        ("a: {@Affine, bits: '???'}", "a.bits: mandatory value missing; give a.bits=…"),
        ("a: {@Affine, bits: 8, signed: 'yes'}", "a.signed: expected bool, got 'yes' (str)"),
        (
            "a: {@Affine, bits: 8, rounding: half_odd}",
            "a.rounding: 'half_odd' is not a choice; valid: HALF_EVEN, STOCHASTIC",
        ),
        ("a: {@Pair, weight: {x: 1}}", "a.weight: expected Scheme, got {'x': 1} (dict)"),
        ("a: {@Train, shape: 5}", "a.shape: expected a list, got 5 (int)"),
        ("a: {@Train, rate: '${b.c}'}\nb: {d: 1}", "a.rate: refers to b.c, which is not set; valid: d"),
        ("a: {@Train, rate: '${b}'}\nb: x", "b: expected float, got 'x' (str)"),
        ("a: '${b}'\nb: '${c}'\nc: '${b}'", "a: refers to itself, by way of b"),
        (
            "a: {@Afine, bits: 8}",
            f"a._target_: '{MODULE}.Afine': '{MODULE}' has no class 'Afine'; did you mean",
        ),
        ("a: {_target_: nowhere.at.All}", "a._target_: 'nowhere.at.All': no module 'nowhere.at'"),
        (
            "a: {_target_: os.environ}",
            "a._target_: 'os.environ' is a _Environ: must be a class, or a function",
        ),
        ("a: {@Train, rate: .nan}", "a.rate: expected float, got nan (float)"),
        ("a: {_target_: 7}", "a._target_: 7 is not a dotted name like package.module.Class"),
        (
            "a: {_target_: pipeline.trackin.null.Null}",
            "a._target_: 'pipeline.trackin.null.Null': no module 'pipeline.trackin.null'",
        ),
        (
            "a: {_target_: pipeline.stor.Store}",
            "a._target_: 'pipeline.stor.Store': no module 'pipeline.stor' in 'pipeline'; did you mean",
        ),
    ],
)
def test_a_problem_says_where_what_and_what_instead(text, problem):
    first, *_ = problems(text)
    assert first.startswith(problem)


def test_a_wrong_value_is_reported_where_it_is_written_and_once():
    assert problems("""
        shared: {@Affine, bits: 1}
        a: {@Pair, weight: '${shared}'}
        b: {@Pair, weight: '${shared}'}
    """) == ["shared.bits=1: must be 2..8"]  # fmt: skip


def test_the_wrong_kind_of_component_is_reported_where_it_was_chosen():
    made = builder("""
        quantizer: {@Train}
        a: {@Pair, weight: '${quantizer}'}
    """)
    made.build()
    with pytest.raises(ConfigError) as error:
        made.raise_problems()
    problem = str(error.value).splitlines()[1].strip()
    assert problem.startswith("quantizer: expected Scheme, got Train(")


def test_user_code_is_allowed_everywhere_and_recorded():
    made = builder("""
        model: {_target_: fractions.Fraction, numerator: 3}
        stages: {mine: {_target_: fractions.Fraction.from_float, f: 0.5}}
        data: {@function, height: 2}
    """)
    built = made.build()
    made.raise_problems()
    assert built["model"] == 3 and built["stages"]["mine"] == 0.5
    assert built["data"] == {"width": 8, "height": 2}
    assert made.user_code == ["model: fractions.Fraction", "stages.mine: fractions.Fraction.from_float"]


def recorded(text: str, code: tuple[str, ...] = ()) -> Builder:
    """A builder of a configuration that came with a record."""
    node = OmegaConf.create(textwrap.dedent(text).replace("@", f"_target_: {MODULE}."))
    return Builder(node, trusted=(MODULE,), code=code)


@pytest.mark.parametrize(
    "text",
    [
        "a: {_target_: evil_code_of_a_record.Run}",
        "a: {@Later, make: evil_code_of_a_record.run}",
    ],
)
def test_a_recorded_configuration_runs_no_code_but_what_is_trusted(text, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    (tmp_path / "evil_code_of_a_record.py").write_text(
        f"open({str(ran)!r}, 'w').close()\ndef run(): pass\nclass Run: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil_code_of_a_record", raising=False)
    made = recorded(text)
    made.build()
    with pytest.raises(ConfigError, match=r"is code that a recorded(.|\n)*trust=\[evil_code_of_a_record\]"):
        made.raise_problems()
    assert not ran.exists()
    made = recorded(text, code=("evil_code_of_a_record",))
    made.build()
    made.raise_problems()
    assert ran.exists()


def test_a_recorded_configuration_reaches_nothing_through_the_pipelines_own_imports():
    made = recorded("a: {@Path}")
    made.build()
    with pytest.raises(ConfigError, match="is not the pipeline's own, but imported there"):
        made.raise_problems()


def test_a_callable_is_named_and_not_called():
    made = builder("a: {@Later, make: fractions.Fraction}")
    assert made.build()["a"].make is Fraction
    made.raise_problems()
    assert made.user_code == ["a.make: fractions.Fraction"]
    (problem,) = problems("a: {@Later, make: nowhere_at_all.thing}")
    assert problem == (
        "a.make: 'nowhere_at_all.thing': no module 'nowhere_at_all'; "
        "install 'nowhere_at_all', or start in the folder that it lies in"
    )


def test_what_is_missing_of_a_protocol_is_named_with_its_example():
    with pytest.raises(ConfigError) as error:
        build("a: {@Pair, weight: {@Train}}")
    _, problem, *example = (line.strip() for line in str(error.value).splitlines())
    assert problem.startswith("a.weight: expected Scheme, got Train(")
    assert problem.endswith(": it lacks levels; a complete example:")
    assert [line for line in example if line] == ["class Mine:", "def levels(self): return 4"]


def test_the_run_settings_are_built_from_the_root_beside_other_keys():
    made = builder("""
        seed: 3
        store: {path: some/where}
        something: {else: 1}
    """)
    run = made.build_as(RunConfig)
    made.raise_problems()
    assert (run.seed, run.store.path, run.store.reuse) == (3, "some/where", True)


def test_wrong_run_settings_are_problems_too():
    made = builder("{seed: -1}")
    made.build_as(RunConfig)
    with pytest.raises(PipelineError, match=r"seed=-1: must be 0\.\.4294967295"):
        made.raise_problems()


def test_whole_numbers_are_names_too():
    """The modules of nn.Sequential have such names; a reference to one of them is followed."""
    built = build("""
        layers: {0: float, '1': {@Affine, bits: 4}, 12: '${layers.1}', 13: '${layers.0}'}
    """)
    assert list(built["layers"]) == ["0", "1", "12", "13"]
    assert built["layers"]["12"] is built["layers"]["1"]
    assert built["layers"]["13"] == "float"


@pytest.mark.parametrize("key", ["1.10", "true"])
def test_keys_that_are_not_read_as_written_are_refused(key):
    (problem,) = problems(f"layers: {{{key}: float}}")
    assert "the key is read as a number with a fraction" in problem and "{1?10: …}" in problem


def test_a_class_of_the_user_s_leaves_out_null_keys_of_the_one_whose_place_it_takes(tmp_path, monkeypatch):
    """`model._target_=mine.Own` alone: the option's other keys are those of the model it was written for."""
    lines = "from dataclasses import dataclass", "@dataclass(kw_only=True)", "class Own:", "    size: int"
    (tmp_path / "own_shelf.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    nodes = {"weights": None, "other": "a.pt"}
    for key, value in nodes.items():
        root = {"model": {"_target_": "own_shelf.Own", "size": 3, key: value}}
        builder = Builder(OmegaConf.create(root))
        built = builder.build("model")
        if value is None:
            builder.raise_problems()
            assert built.size == 3
        else:
            with pytest.raises(ConfigError, match=r"model\.other: unknown key"):
                builder.raise_problems()


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("_hidden", "'_hidden' is private, and no component"),
        ("Pair.__init__", "'__init__' is private, and no component"),
        ("function", "is no component: neither a class with a schema nor what an option of conf/ names"),
    ],
)
def test_a_recorded_configuration_names_components_and_nothing_else_of_the_pipelines(target, problem):
    made = recorded(f"a: {{@{target}}}")
    made.build()
    with pytest.raises(ConfigError) as error:
        made.raise_problems()
    assert f"a._target_: '{MODULE}.{target}'" in str(error.value) and problem in str(error.value)


def test_what_an_option_names_is_a_component():
    assert is_component(arrays, "stages.data.arrays.arrays")
    assert not is_component(split_name, "stages.data.array_files.split_name")


@pytest.mark.parametrize(
    "text", ["a: {@Affine, bits: 4, strange: {@Kept}}", "a: {@function, width: {@Kept}}"]
)
def test_what_a_key_that_nothing_takes_holds_is_never_built(text, parts, monkeypatch):
    made = []

    @dataclass(frozen=True, kw_only=True)
    class Kept:
        def __post_init__(self) -> None:
            made.append(self)

    Kept.__module__ = MODULE
    monkeypatch.setattr(parts, "Kept", Kept, raising=False)
    record = recorded(text)
    record.build()
    with pytest.raises(ConfigError, match=r"a.strange: unknown key|is no component"):
        record.raise_problems()
    assert made == []
    recorded("a: {@Kept}").build()
    assert len(made) == 1  # so it is one that would have been
