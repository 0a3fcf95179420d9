"""The exporter: a program leaves as calls of CMSIS-NN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.data.description import Description
from stages.exporters.cmsis_nn import CmsisNN
from stages.exporters.exporter import Exporter, exporters
from stages.importers.tflite import read_tflite
from stages.integer.interpreter import Interpreter
from tests.stages.exporters.cmsis_code.compiled import compile_cmsis, run_cmsis
from tests.stages.exporters.tflite_file.networks import convolutional
from tests.stages.integer.strategies import random_input

SHARED = Path(__file__).resolve().parents[4] / "shared" / "models" / "tflite"


def test_the_exporter_is_found_by_its_name():
    (found,) = (exporter for exporter in exporters() if exporter.name == "cmsis_nn")
    assert found == CmsisNN() and isinstance(found, Exporter)


def test_the_header_says_the_layout_sizes_and_names(tmp_path):
    description = Description(shape=(3, 8, 8), mean=(0.5,), std=(0.25,), classes=("a", "b"), image=None)
    assert CmsisNN().write(convolutional("tflm"), description, tmp_path) == tmp_path / "model.c"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.c", "model.h"]
    header = (tmp_path / "model.h").read_text()
    assert " * input:  int8_t (8, 8, 3), row-major, levels -128..127\n" in header
    assert " * Images have their channels last." in header
    assert "#define MODEL_INPUT_SIZE 192 /* levels, shape (8, 8, 3) */\n" in header
    assert "#define MODEL_INPUT_ZERO_POINT 3\n" in header
    assert '#define MODEL_CLASSES {"a", "b"}\n' in header


@pytest.mark.parametrize("name", ["kws", "ad01", "conv_fc_mnist"])
def test_networks_of_the_field_give_the_references_integers(name, tmp_path):
    path = SHARED / f"{name}_int8.tflite"
    if not path.exists():
        pytest.skip(f"data missing from ../shared: models/tflite/{path.name}")
    program = read_tflite(path)
    q = random_input(program, 3)
    found = run_cmsis(compile_cmsis(program, tmp_path, "-DARM_MATH_MVEI"), program, q)
    np.testing.assert_array_equal(found, Interpreter(program, threads=1).run(q))


def test_refuses_an_unsigned_network_by_name():
    path = SHARED / "mobilenet_v2_1.0_224_uint8.tflite"
    if not path.exists():
        pytest.skip(f"data missing from ../shared: models/tflite/{path.name}")
    (reason,) = CmsisNN().refusals(read_tflite(path))
    assert reason.startswith("levels that are not int8 (") and "of an imported file, an int8 one" in reason
