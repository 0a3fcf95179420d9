"""Whole runs of an nn.Sequential, whose layers are named 0, 1, …: such keys are names in any place."""

import json

import pytest

from tests.stages.test_main_job import run, runs

NETWORK = ("model._target_=tests.stages.networks.Numbered", "tracking=none")


def layers(folder) -> dict[str, tuple[str, int]]:
    """The operator of each layer of the one run's program, and the bits of its weight."""
    (run_dir,) = runs(folder)
    ops = json.loads((run_dir / "program" / "program.json").read_text())["ops"]
    return {
        op["output"]: (op["op"], op.get("packed", {}).get("bits", 8)) for op in ops if op["op"] != "reshape"
    }


def test_from_the_command_line(tmp_path):
    run(tmp_path, *NETWORK, "quantizer.layers={0: float, 3: {weight: 4}}")
    assert layers(tmp_path) == {"0": ("float_conv2d", 8), "3": ("linear", 4)}


def test_from_a_file(tmp_path):
    folder = tmp_path / "own" / "quantizer"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "defaults: [symmetric, _self_]\nlayers:\n  3: float\n  '0': {weight: 4}\n"
    )
    run(tmp_path, *NETWORK, "quantizer=mine", "--config-dir", "own")
    assert layers(tmp_path) == {"0": ("conv2d", 4), "3": ("float_linear", 8)}


@pytest.mark.parametrize(
    ("key", "text"), [("0.10", "0.1: the key is read as a number"), ("7", "pattern '7' matches no layer")]
)
def test_a_key_that_is_no_layer_is_refused(tmp_path, key, text):
    done = run(tmp_path, *NETWORK, f"quantizer.layers={{{key}: float}}", check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert text in said and "Remedy" in said and "Traceback" not in said
