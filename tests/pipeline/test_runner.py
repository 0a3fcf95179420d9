"""Wiring, caching, order of checks, metrics."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from pipeline.errors import ConfigError, PipelineError
from pipeline.runner import check_wiring, run_stages, write_metrics
from pipeline.store.imports import forget
from pipeline.tracking.null import Null


def chain(fakes: Any, make: dict[str, Any] | None = None, **square: Any) -> list[Any]:
    return [fakes.Make(**(make or {})), fakes.DoSquare(**square), fakes.Add(), fakes.Show()]


def cached(metrics: dict[str, float]) -> list[str]:
    return [name.split("/")[1] for name in metrics if name.endswith("/cached") and metrics[name] == 1.0]


def test_stages_run_in_order_after_all_have_been_checked(fakes, context):
    run_stages(chain(fakes), context())
    assert fakes.ran() == [
        "check show", "check add", "check square", "check make", "make", "square", "add", "show",
    ]  # fmt: skip


def test_a_check_that_refuses_stops_the_run_before_anything_is_computed(fakes, context):
    with pytest.raises(PipelineError, match="square refuses"):
        run_stages(chain(fakes, refuse=True), context())
    assert "make" not in fakes.ran()


def test_a_second_run_takes_everything_from_the_store_and_loads_only_what_it_needs(fakes, context):
    first = run_stages(chain(fakes), context())
    fakes.ran()
    second = run_stages(chain(fakes), context())
    # the square has metrics, the sum is consumed by a stage that always runs; the number is not loaded
    assert fakes.ran() == ["load square", "check show", "load sum", "show"]
    assert cached(first) == []
    assert cached(second) == ["make", "square", "add"]
    assert second["square/value"] == first["square/value"] == 9.0


@pytest.mark.parametrize(
    ("change", "recomputed"),
    [
        ({"make": {"value": 4.0}}, ["make", "square", "add"]),
        ({"wait": 0.01}, ["square"]),  # gives the same content, so what follows is still valid
        ({"make": {"threads": 2}}, []),  # a field that is not part of the key
    ],
)
def test_a_changed_setting_recomputes_what_depends_on_it(fakes, context, change, recomputed):
    run_stages(chain(fakes), context())
    metrics = run_stages(chain(fakes, **change), context())
    assert cached(metrics) == [name for name in ["make", "square", "add"] if name not in recomputed]


def test_a_changed_seed_recomputes(fakes, context):
    run_stages(chain(fakes), context())
    assert cached(run_stages(chain(fakes), context(seed=1))) == []


def test_changed_code_recomputes(fakes, context):
    run_stages(chain(fakes), context())
    source = next(fakes.folder.glob("*.py"))
    source.write_text(source.read_text() + "\n# a change\n")
    forget()
    assert cached(run_stages(chain(fakes), context())) == []


def test_another_number_of_threads_recomputes_what_depends_on_it_and_is_recorded(fakes, context):
    class Trains(fakes.Make):
        depends_on_threads = True

    stages = [Trains(), *chain(fakes)[1:]]
    for threads, expected in ((1, []), (2, ["square", "add"]), (2, ["make", "square", "add"])):
        ctx = context(threads=threads)
        assert cached(run_stages(stages, ctx)) == expected
    manifests = [json.loads(path.read_text()) for path in ctx.store.root.glob("number/*/manifest.json")]
    assert sorted(manifest["made_from"]["threads"] for manifest in manifests) == [1, 2]


def test_a_changed_input_recomputes(fakes, context):
    run_stages(chain(fakes, make={"noise": True}), context(seed=0))
    metrics = run_stages(chain(fakes, make={"noise": True, "value": 5.0}), context(seed=0))
    assert cached(metrics) == []


def test_reuse_false_computes_everything_and_stores_it(fakes, context):
    run_stages(chain(fakes), context())
    assert cached(run_stages(chain(fakes), context(reuse=False))) == []
    assert cached(run_stages(chain(fakes), context())) == ["make", "square", "add"]


def test_a_stage_draws_the_same_random_numbers_whether_or_not_those_before_it_ran(fakes, context):
    fresh = run_stages(chain(fakes, noise=True), context())
    run_stages(chain(fakes, noise=True, wait=0.01), context(reuse=False))
    behind_cache = run_stages(chain(fakes, noise=True, wait=0.02), context())
    assert cached(behind_cache) == ["make", "add"]
    assert behind_cache["square/value"] == fresh["square/value"]


def test_metrics_json_holds_what_the_tracker_got(fakes, context):
    ctx = context()
    metrics = run_stages(chain(fakes), ctx)
    assert json.loads((ctx.run_dir / "metrics.json").read_text()) == metrics
    assert metrics["make/loss"] == 0.25  # a metric of several steps: the last
    assert set(metrics) == {"make/loss", "square/value"} | {
        f"stage/{name}/{what}" for name in ("make", "square", "add", "show") for what in ("seconds", "cached")
    }


def test_a_number_that_is_not_finite_is_left_out_and_named_once(fakes, context, caplog):
    """In metrics of an artifact and in what a stage records itself; in the log, and in no record."""

    class Ratio(fakes.Square):
        kind = "ratio"

        def metrics(self):
            return {"ratio/infinite": float("inf"), "ratio/undefined": float("nan"), "ratio/known": 2.0}

    @dataclass(frozen=True, kw_only=True)
    class Divide(fakes.DoSquare):
        produces: ClassVar[type] = Ratio

        def run(self, ctx, inputs):
            for step, loss in enumerate((0.5, float("nan"), -float("inf"))):
                ctx.tracker.metrics({"ratio/loss": loss}, step=step)
            return Ratio(1.0)

    @dataclass(frozen=True)
    class Recorder(Null):
        given: dict = field(default_factory=dict)

        def metrics(self, values, step=None):
            self.given.update(values)

    ctx = context(tracker=Recorder())
    metrics = run_stages([fakes.Make(), Divide()], ctx)
    assert json.loads((ctx.run_dir / "metrics.json").read_text()) == metrics
    assert {k: v for k, v in metrics.items() if k.startswith("ratio/")} == {
        "ratio/known": 2.0,
        "ratio/loss": 0.5,
    }
    assert ctx.tracker.given == metrics
    assert [m for m in caplog.messages if "not finite" in m] == [
        "metric ratio/loss=nan: not finite, left out of the record",
        "metric ratio/infinite=inf: not finite, left out of the record",
        "metric ratio/undefined=nan: not finite, left out of the record",
    ]


def test_metrics_json_takes_finite_numbers_only(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_metrics(tmp_path, {"a": float("inf")})
    assert list(tmp_path.iterdir()) == []


def test_artifacts_are_let_go_when_no_later_stage_consumes_them(fakes, context):
    import gc
    import weakref

    alive = []

    class Watch(fakes.Make):
        def run(self, ctx, inputs):
            number = super().run(ctx, inputs)
            alive.append(weakref.ref(number))
            return number

    class Late(fakes.Show):
        def run(self, ctx, inputs):
            gc.collect()
            alive.append(alive[0]())

    run_stages([Watch(), fakes.DoSquare(), fakes.Add(), Late()], context())
    assert alive[1] is None


def test_a_missing_producer_is_named_with_who_could_produce_it(fakes):
    with pytest.raises(ConfigError) as error:
        check_wiring([fakes.DoSquare(), fakes.Make(), fakes.Show()])
    text = str(error.value)
    assert "stage 'square' consumes Number, which no stage before it produces (they produce nothing)" in text
    assert "move 'make' before it" in text
    assert "stage 'show' consumes Sum" in text
    assert "(they produce Number, Square); add a stage that produces it" in text


def test_two_stages_of_one_name_and_what_is_no_stage_are_refused(fakes):
    with pytest.raises(ConfigError) as error:
        check_wiring([fakes.Make(), fakes.Make(value=1.0), 7])
    assert "stage 'make' is there twice" in str(error.value)
    assert "stage 2: int is not a stage; it lacks" in str(error.value)


def test_a_stage_that_does_not_go_with_the_others_is_refused_with_all_that_is_wrong(fakes):
    class Lonely(fakes.Show):
        def misfits(self, stages):
            return (f"does not like {stage.name}. Remedy: leave it out" for stage in stages[:2])

    with pytest.raises(ConfigError) as error:
        check_wiring([*chain(fakes)[:3], Lonely(), 7])
    text = str(error.value)
    assert "stage 'show': does not like make. Remedy: leave it out" in text
    assert "stage 'show': does not like square" in text
    assert "int is not a stage" in text


def test_a_stage_sees_only_what_it_declares(fakes, context):
    class Sneaky(fakes.Show):
        def run(self, ctx, inputs):
            assert list(inputs) == [fakes.Sum] and len(inputs) == 1
            inputs[fakes.Number]

    with pytest.raises(
        PipelineError, match="stage 'show' asks for Number; add it to the stage's `consumes` or `optional`"
    ):
        run_stages([*chain(fakes)[:3], Sneaky()], context())


def total(fakes: Any, sums: list[float] | None = None) -> Any:
    """A stage that adds up what is there, and notes the sum."""

    class Total(fakes.Add):
        consumes = ()
        optional = (fakes.Number, fakes.Square)

        def run(self, ctx, inputs):
            there = [inputs.get(kind) for kind in self.optional]
            assert len(inputs) == len(list(inputs)) == sum(number is not None for number in there)
            value = sum(number.value for number in there if number is not None)
            if sums is not None:
                sums.append(value)
            return fakes.Sum(value)

    return Total()


def test_an_optional_input_is_taken_where_it_is_there_and_is_part_of_the_key(fakes, context):
    sums: list[float] = []
    assert cached(run_stages([fakes.Make(), total(fakes, sums)], context())) == []
    both = [fakes.Make(), fakes.DoSquare(), total(fakes, sums)]
    assert cached(run_stages(both, context())) == ["make"]
    assert cached(run_stages(both, context())) == ["make", "square", "add"]
    assert sums == [3.0, 12.0]


def test_an_optional_input_that_comes_too_late_is_refused(fakes):
    with pytest.raises(ConfigError) as error:
        check_wiring([fakes.Make(), total(fakes), fakes.DoSquare()])
    assert "stage 'add' takes Square, which 'square' after it produces; move 'square' before it" in str(
        error.value
    )


def test_a_stage_with_optional_inputs_alone_needs_one_of_them(fakes):
    with pytest.raises(ConfigError) as error:
        check_wiring([total(fakes)])
    assert "stage 'add' needs one of Number, Square, and no stage before it produces any" in str(error.value)


def test_a_wrong_result_type_is_refused(fakes, context):
    class Wrong(fakes.Make):
        def run(self, ctx, inputs):
            return 7

    with pytest.raises(PipelineError, match="stage 'make' returned int; it declares that it produces Number"):
        run_stages([Wrong()], context())


def test_a_component_that_says_nothing_of_its_content_is_refused_before_anything_runs(fakes, context):
    with pytest.raises(
        PipelineError, match=r"square\.wait: a builtins\.object cannot be part of a cache key"
    ):
        run_stages(chain(fakes, wait=object()), context())
    assert fakes.ran() == []


def test_scratch_is_the_same_folder_after_a_failure_and_gone_after_success(fakes, context, tmp_path):
    seen = []

    class Long(fakes.Make):
        def run(self, ctx, inputs):
            seen.append([file.name for file in ctx.scratch.iterdir()])
            (ctx.scratch / "epoch_3").touch()
            if len(seen) == 1:
                raise PipelineError("stopped")
            return super().run(ctx, inputs)

    with pytest.raises(PipelineError, match="stopped"):
        run_stages([Long()], context())
    run_stages([Long()], context())
    run_stages([Long(value=4.0)], context())
    assert seen == [[], ["epoch_3"], []]
    assert list((tmp_path / "store" / ".scratch").iterdir()) == []


SCRIPT = """
import sys
from pathlib import Path
import {module} as fakes
from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.runner import run_stages
from pipeline.store.local import Store
from pipeline.tracking.null import Null

run_dir = Path(sys.argv[1])
run_dir.mkdir()
ctx = RunContext(run_dir=run_dir, seed=0, device="cpu", tracker=Null(), store=Store(Path(sys.argv[2])),
                 console=Console(quiet=True))
run_stages([fakes.Make(), fakes.DoSquare(wait=float(sys.argv[3])), fakes.Add(), fakes.Show()], ctx)
"""


def start(fakes: Any, tmp_path: Any, name: str, wait: float) -> subprocess.Popen[str]:
    code = f"import sys; sys.path.insert(0, {str(fakes.folder)!r})\n" + SCRIPT.format(
        module=fakes.module.__name__
    )
    command = [sys.executable, "-c", code, str(tmp_path / name), str(tmp_path / "store"), str(wait)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_processes_compute_a_thing_once(fakes, tmp_path):
    processes = [start(fakes, tmp_path, name, wait=2.5) for name in ("a", "b")]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    ran = fakes.ran()
    assert [ran.count(name) for name in ("make", "square", "add", "show")] == [1, 1, 1, 2]
    assert sum("another run is computing the same square; waiting for it" in text for text in outputs) == 1


def test_a_killed_run_goes_on_from_its_last_finished_stage(fakes, tmp_path, context):
    process = start(fakes, tmp_path, "killed", wait=30)
    deadline = time.monotonic() + 30
    while "square" not in (fakes.log.read_text().splitlines() if fakes.log.exists() else []):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert fakes.ran()[-2:] == ["make", "square"]
    metrics = run_stages(chain(fakes), context())
    assert cached(metrics) == ["make"]
    assert [line for line in fakes.ran() if "check" not in line] == ["load number", "square", "add", "show"]


def test_an_artifact_writes_its_files_for_every_run_computed_or_cached(fakes, context):
    fakes.Square.write_files = lambda square, run_dir: (run_dir / "square.txt").write_text(repr(square.value))
    stages = [fakes.Make(), fakes.DoSquare()]
    for cached in (False, True):
        ctx = context()
        metrics = run_stages(stages, ctx)
        assert bool(metrics["stage/square/cached"]) is cached
        assert (ctx.run_dir / "square.txt").read_text() == "9.0"
