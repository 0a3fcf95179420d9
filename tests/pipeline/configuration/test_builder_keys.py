"""Keys at the root that are no paths, as only files have them, and paths that lead nowhere."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from pipeline.configuration.builder import Builder
from pipeline.errors import ConfigError


@pytest.mark.parametrize("key", ["a.b", ".", "", 1, True, 2.5])
def test_a_root_key_is_taken_as_it_is(key):
    builder = Builder(OmegaConf.create({key: {"c": 3}}))
    assert builder.build() == {str(key): {"c": 3}}
    builder.raise_problems()


def test_a_name_below_a_dotted_key_is_refused_like_any_other():
    builder = Builder(OmegaConf.create({"a.b": {"_target_": "os.system", "command": "true"}}), code=())
    builder.build()
    with pytest.raises(ConfigError, match=r"a\.b\._target_: 'os\.system' is code that a recorded config"):
        builder.raise_problems()


def test_a_path_below_nothing_is_a_problem():
    builder = Builder(OmegaConf.create({"a": 1}))
    builder.build("x.y")
    with pytest.raises(ConfigError, match=r"x\.y: there is no x"):
        builder.raise_problems()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"seed": 1}, None),
        ({"foo": 1}, "foo: nothing reads it; valid: seed"),
        ({"sed": {"a": 1}}, "sed: nothing reads it; did you mean 'seed'? valid: seed"),
        ({"size": 3, "seed": "${size}"}, None),
        ({"size": 3, "seed": "${oc.decode:${size}}"}, None),
        ({"part": {"_target_": "pipeline.tracking.null.Null"}}, None),
    ],
)
def test_what_nothing_reads_is_a_problem(given, problem):
    builder = Builder(OmegaConf.create(given))
    builder.refuse_unused(set(given), {"seed"})
    if problem is None:
        builder.raise_problems()
    else:
        with pytest.raises(ConfigError) as error:
            builder.raise_problems()
        assert str(error.value).splitlines()[1].strip() == problem


def test_what_a_file_adds_is_its_writers_business():
    builder = Builder(OmegaConf.create({"qat": {"epochs": 1}}))
    builder.refuse_unused(set(), {"seed"})
    builder.raise_problems()
