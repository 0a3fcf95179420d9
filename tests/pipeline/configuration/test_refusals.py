"""A mistyped key, option or value: what is wrong, and what was meant."""

from __future__ import annotations

import pytest

from pipeline.configuration.composed import composed
from pipeline.configuration.refusals import of_plugin, trace
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "text"),
    [
        (
            "quantizer.weight.bit=4",
            "quantizer.weight.bit: no such setting; did you mean 'bits'? valid: b",
        ),
        ("calibraton=mse", "calibraton: no such setting; did you mean 'calibration'? valid: backend,"),
        ("stages.trian=null", "stages.trian: no such setting; did you mean 'train'? valid: adaround,"),
        ("training.epochs=3", "training.epochs: no such setting; there is training.float.epochs"),
        ("bits=3", "bits: no such setting; there is quantizer.weight.bits, quantizer.activation.bits"),
        (
            "quantizer=symetric",
            "quantizer=symetric: no such option; did you mean 'symmetric'? valid: a",
        ),
        ("export=[tflit]", "export=tflit: no such option; did you mean 'tflite'? valid: all, c,"),
        (
            "experiment=low_bits/w4a5",
            "experiment=low_bits/w4a5: no such option; did you mean 'low_bits/w",
        ),
        ("hydra/sweeper=basc", "hydra/sweeper=basc: no such option; did you mean 'basic'? valid: basic"),
        ("seed=many", "seed: Value 'many' of type 'str' could not be converted to Integer"),
        ("store.path=null", "store.path: field 'store.path' is not Optional"),
        ("seed", "seed: not read (Error parsing override 'seed'). Remedy: give KEY=VALUE"),
        ("~threads", "~threads: every run has it. Remedy: threads=… changes it"),
    ],
)
def test_it_is_said_in_a_line(override, text):
    with pytest.raises(ConfigError) as error:
        composed([override])
    assert str(error.value).startswith(text) and len(str(error.value).splitlines()) == 1


def test_a_setting_that_the_option_does_not_write_is_added(tmp_path):
    folder = tmp_path / "granularity"
    folder.mkdir()
    (folder / "groups.yaml").write_text("_target_: stages.quant.granularity.per_group.PerGroup\n")
    with pytest.raises(ConfigError) as error:
        composed(["granularity=groups", "granularity.group_size=32"], tmp_path)
    assert str(error.value) == (
        "granularity.group_size: has its default, and is not written in this option. "
        "Remedy: +granularity.group_size=… sets it"
    )


def test_options_of_the_users_own_folder_are_among_the_alternatives(tmp_path):
    (tmp_path / "quantizer").mkdir()
    (tmp_path / "quantizer" / "symmetrical.yaml").touch()
    with pytest.raises(ConfigError, match="did you mean 'symmetrical'"):
        composed(["quantizer=symmetricl"], tmp_path)


def test_a_trace_has_no_frames_of_hydra():
    from hydra import compose

    try:
        compose("x")
    except Exception as error:
        text = trace(error)
    assert "test_refusals.py" in text and "/hydra/" not in text


def raised_below(path, code, **names):
    """What `code` raises, run as the file `path`."""
    try:
        exec(compile(code, path, "exec"), names)
    except Exception as error:
        return error
    raise AssertionError("nothing raised")


PLUGIN = "/lib/site-packages/hydra_plugins/hydra_optuna_sweeper/_impl.py"


def test_what_a_sweeper_refuses_is_a_line():
    error = raised_below(PLUGIN, "raise ValueError('low\\nabove high')")
    said = of_plugin(error)
    assert said is not None and "\n" not in said
    assert said.startswith("hydra.sweeper: hydra_optuna_sweeper refuses it (low above high). Remedy: ")


def test_an_error_of_a_job_or_of_another_type_keeps_its_trace():
    assert of_plugin(raised_below(PLUGIN, "raise KeyError(1)")) is None
    assert of_plugin(raised_below("/home/me/net.py", "raise ValueError(1)")) is None
    below = raised_below(PLUGIN, "composed(['quantizer=nosuch'])", composed=composed)
    assert isinstance(below, ConfigError) and of_plugin(below) is None
