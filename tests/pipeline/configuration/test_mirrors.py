"""Each backend is a runtime too, with the same settings, any number at once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import HydraException

import conf
from pipeline.configuration.mirrors import OWN
from pipeline.configuration.schema import register
from pipeline.stage import in_order
from tests.composed import built

CONF = Path(conf.__file__).parent
BACKENDS = sorted(path.stem for path in (CONF / "backend").glob("*.yaml") if path.stem != "simulation")


def test_all_runtimes_are_all_backends_but_our_own():
    (stage,) = built("runtimes=[all]").stages["runtimes"].stages()
    variants = {path.stem for path in (CONF / "runtimes").glob("*.yaml")}
    assert set(BACKENDS) >= OWN and set(stage.runtimes) == set(BACKENDS) - OWN | variants


def test_all_exports_are_all_files():
    exporters = [stage.exporter.name for stage in built("export=[all]").stages["export"].stages()]
    assert sorted(exporters) == sorted(path.stem for path in (CONF / "export").glob("*.yaml"))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_runtime_is_what_the_backend_is(name):
    as_backend, as_runtime = built(f"backend={name}"), built(f"runtimes=[{name}]", "threads=1")
    (stage,) = as_runtime.stages["runtimes"].stages()
    expected = as_backend.stages["evaluate"].backend
    assert type(stage.runtimes[name]) is type(expected)
    threads = {"threads": 1} if "threads" in asdict(expected) else {}
    assert asdict(stage.runtimes[name]) == asdict(expected) | threads


def test_settings_are_each_runtimes_own():
    run = built("runtimes=[onnxruntime,openvino]", "runtimes.onnxruntime.residual=exact", "backend=reference")
    (stage,) = run.stages["runtimes"].stages()
    assert list(stage.runtimes) == ["onnxruntime", "openvino"]
    assert stage.runtimes["onnxruntime"].residual == "exact"
    assert run.stages["evaluate"].backend.name == "reference"


def test_variants_of_a_runtime_stand_side_by_side():
    run = built("runtimes=[onnxruntime,onnxruntime_off,onnxruntime_qoperator,onnxruntime_tensorrt]")
    (stage,) = run.stages["runtimes"].stages()
    files = [(one.form, one.optimization, one.export) for one in stage.runtimes.values()]
    assert files == [
        ("qdq", "all", "onnx_qdq"),
        ("qdq", "disabled", "onnx_qdq"),
        ("qoperator", "all", "onnx_qoperator"),
        ("tensorrt", "all", "tensorrt"),
    ]


def test_without_runtimes_there_is_no_stage():
    assert "runtimes" not in [stage.name for stage in in_order(built().stages)]


def test_an_unknown_runtime_is_named():
    with pytest.raises(HydraException, match="Could not load 'runtimes/tflight'"):
        built("runtimes=[tflight]")


def test_a_users_own_backend_needs_two_lines(tmp_path):
    (tmp_path / "backend").mkdir()
    (tmp_path / "runtimes").mkdir()
    (tmp_path / "backend" / "mine.yaml").write_text(
        "_target_: stages.backends.reference.Reference\nthreads: 3\n"
    )
    (tmp_path / "runtimes" / "mine.yaml").write_text("defaults:\n  - /backend@mine: mine\n")
    register()
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("config", overrides=["runtimes=[mine]", f"hydra.searchpath=[file://{tmp_path}]"])
    assert config.runtimes == {"mine": {"_target_": "stages.backends.reference.Reference", "threads": 3}}
