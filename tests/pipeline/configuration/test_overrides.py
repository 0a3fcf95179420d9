"""What Hydra's grammar does not read is shown quoted, and is then read as it was meant."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.configuration.overrides import check_overrides
from pipeline.errors import ConfigError


@pytest.mark.parametrize("name", ["ck/epoch=3-val=0.2.ckpt", "a b(1).ckpt", "it's=1.pt", "[x.pt"])
def test_a_files_name_with_signs_of_the_grammar_is_shown_quoted(name):
    with pytest.raises(ConfigError, match=r"^model\.weights=.*: not read \((.|\n)*Remedy: ") as error:
        check_overrides(["seed=1", f"model.weights={name}"])
    (argument,) = shlex.split(str(error.value).splitlines()[-1])
    check_overrides([argument])
    assert OverridesParser.create().parse_override(argument).value() == name


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "seed=1,2"],
        ["experiment=whitepaper/four_bit", "column=a,b"],
        ["model=torch", "model.args={model_name: resnet18, n: [1, 2]}", "~tracking", "+a.b=null"],
        ["--config-dir", "conf", "correction=[equalize,bias]", "seed=", "seed=range(1,3)"],
    ],
)
def test_what_is_read_passes(arguments):
    check_overrides(arguments)
