"""A record's configuration is data: it names keys of its own, and asks this machine for nothing."""

from __future__ import annotations

import pytest

from pipeline.configuration.recorded import read_record
from pipeline.errors import ConfigError


def read(tmp_path, text: str, trust=()):
    (tmp_path / "config.yaml").write_text(text)
    return read_record(tmp_path / "config.yaml", "abc", trust)


@pytest.fixture(autouse=True)
def _secret(monkeypatch):
    monkeypatch.setenv("SECRET", "only this machine knows")


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("a: ${oc.env:SECRET}", "a", "oc.env"),
        ("a: {b: [1, 'x${oc.env:SECRET}']}", r"a.b\[1\]", "oc.env"),
        ("a: '${ oc.env : SECRET }'", "a", "oc.env"),
        ("a: ${oc.env:NOT_THERE,${oc.env:SECRET}}", "a", "oc.env"),
        ("p: 'oc.'\na: ${oc.decode:'${p}'}", "a", "oc.decode"),
        ("a: ${hydra:runtime.cwd}", "a", "hydra"),
        ("a: ${now:%Y}", "a", "now"),
    ],
)
def test_a_resolver_is_refused_with_its_path_and_the_remedy(tmp_path, text, path, name):
    with pytest.raises(ConfigError, match=rf"{path}: .*asks this machine by '{name}'.*trust=\[{name}\]") as e:
        read(tmp_path, text)
    assert "only this machine" not in str(e.value)


@pytest.mark.parametrize("text", ["n: oc.env\na: '${${n}:SECRET}'", "a: ${${b}}\nb: c"])
def test_a_reference_that_is_put_together_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match=r"a: .* is a reference that a recorded configuration makes"):
        read(tmp_path, text)


def test_references_to_keys_are_kept_and_who_trusts_a_resolver_has_it(tmp_path):
    cfg = read(tmp_path, "a: ${b.c}\nb: {c: 3, d: '${.c}', e: 'x ${a} y ${b.c}', f: [1], g: '${b.f[0]}'}")
    assert (cfg.a, cfg.b.d, cfg.b.e, cfg.b.g) == (3, 3, "x 3 y 3", 1)
    assert read(tmp_path, "a: ${oc.env:SECRET}", ["oc.env"]).a == "only this machine knows"


@pytest.mark.parametrize(
    "text", ["? [1, 2]\n: 3", "a: 1\na: 2", "- 1", "3", "a: !x 1", "a: '${'", "? {b: 1}\n: 2"]
)
def test_what_is_no_mapping_of_keys_is_refused_in_a_line(tmp_path, text):
    with pytest.raises(ConfigError, match="config") as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)
