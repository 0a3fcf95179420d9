"""Options of the command line: in any order, and refused with the alternatives."""

from __future__ import annotations

import re

import pytest
from hydra._internal.utils import get_args_parser

from pipeline.configuration.arguments import options_first
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        (["a=1", "--config-dir", "x", "b=2", "-m"], ["--config-dir", "x", "-m", "a=1", "b=2"]),
        (["a=1", "--config-dir=x", "~b"], ["--config-dir", "x", "a=1", "~b"]),
        (["--info", "a=1"], ["--info", "all", "a=1"]),
        (["a=1", "-i", "defaults"], ["-i", "defaults", "a=1"]),
        (["-c", "job", "a=-1", "+b=2"], ["-c", "job", "a=-1", "+b=2"]),
        ([], []),
    ],
)
def test_options_come_before_overrides_and_hydra_reads_them(given, ordered):
    assert options_first(given) == ordered
    assert get_args_parser().parse_args(ordered).overrides == [a for a in ordered if "=" in a or a[0] == "~"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["--multrun"], "--multrun: no such option; did you mean '--multirun'? valid: --cfg, --config-dir"),
        (["a=1", "-x"], "-x: no such option; valid: --cfg"),
        (["a=1", "--config-dir"], "--config-dir: needs a value. Remedy: --config-dir DIR"),
        (["-c", "--resolve"], "-c: needs a value. Remedy: -c job|hydra|all"),
        (["--cfg", "jb"], "--cfg jb: did you mean 'job'? valid: all, hydra, job"),
        (
            ["--experimental-rerun", "x.pickle"],
            "--experimental-rerun: reads a pickle, which can run",
        ),
    ],
)
def test_a_wrong_option_is_said_with_its_remedy(given, text):
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}"):
        options_first(given)
