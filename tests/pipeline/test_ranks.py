"""The runner on several ranks: threads of one process, over fake stages."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from pipeline.errors import ConfigError, PipelineError
from pipeline.ranks import Alone, RankLostError
from pipeline.runner import check_ranks, follow_stages, run_stages
from pipeline.store.keys import identity
from pipeline.store.local import Store


class Threads:
    """Ranks 0 .. size − 1 that meet in memory; one that fails takes the others with it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size)
        self._said: Any = None

    def of(self, rank: int) -> Any:
        return _Thread(rank, self)

    def agree(self, rank: int, value: Any) -> Any:
        try:
            if rank == 0:
                self._said = json.dumps(value)
            self._barrier.wait(20)
            said = self._said
            self._barrier.wait(20)
        except threading.BrokenBarrierError as error:
            raise RankLostError("another rank has ended") from error
        return json.loads(said)

    def leave(self) -> None:
        self._barrier.abort()


class _Thread(Alone):
    def __init__(self, rank: int, among: Threads) -> None:
        self.rank, self.size, self._among = rank, among.size, among

    def agree(self, value: Any = None) -> Any:
        return self._among.agree(self.rank, value)


def collective(fakes: Any) -> type:
    """A stage that all ranks compute; each says that it did."""

    @dataclass(frozen=True, kw_only=True)
    class Together(fakes.DoSquare):
        collective: ClassVar[bool] = True

        def run(self, ctx: Any, inputs: Any) -> Any:
            fakes.module.ran(f"rank {ctx.ranks.rank}")
            return super().run(ctx, inputs)

    Together.__module__ = fakes.module.__name__
    return Together


def run(stages: Any, context: Any, size: int = 3, others: Any = None, **changes: Any) -> dict[str, float]:
    """Rank 0's metrics; raises what rank 0 raises, else what another does."""
    among = Threads(size)
    for stage in (*stages, *(others or ())):  # sources are read once, and not by threads
        identity(stage, 1)

    def rank(number: int) -> Any:
        ctx = replace(context(**changes), ranks=among.of(number))
        try:
            if number == 0:
                return run_stages(stages, ctx)
            # as session: what rank 0 has just stored is found
            return follow_stages(others or stages, replace(ctx, store=Store(ctx.store.root)))
        except BaseException:
            among.leave()
            raise

    with ThreadPoolExecutor(size) as pool:
        jobs = [pool.submit(rank, number) for number in range(size)]
    own = [error for job in jobs if (error := job.exception()) and not isinstance(error, RankLostError)]
    if own:
        raise own[0]
    return jobs[0].result()


def chain(fakes: Any, make: dict[str, Any] | None = None, **square: Any) -> list[Any]:
    return [fakes.Make(**(make or {})), collective(fakes)(**square), fakes.Add(), fakes.Show()]


@pytest.mark.parametrize("reuse", [True, False])
def test_rank_0_computes_alone_but_for_what_all_compute(fakes, context, reuse):
    metrics = run(chain(fakes), context, reuse=reuse)
    ran = fakes.ran()
    assert sorted(line for line in ran if line.startswith("rank")) == ["rank 0", "rank 1", "rank 2"]
    assert [ran.count(line) for line in ("make", "square", "add", "show", "check add")] == [1, 3, 1, 1, 1]
    assert ran.count("load number") == 2  # the others read what they consume
    assert metrics["square/value"] == 9.0


def test_what_rank_0_computes_alone_talks_to_no_other(fakes, context):
    """As a training of no epochs, which asks the ranks that it would train with where it goes on from."""

    @dataclass(frozen=True, kw_only=True)
    class Asking(fakes.DoSquare):
        def run(self, ctx: Any, inputs: Any) -> Any:
            fakes.module.ran(f"among {ctx.ranks.size}: {ctx.ranks.agree(0)}")
            return super().run(ctx, inputs)

    Asking.__module__ = fakes.module.__name__
    metrics = run([fakes.Make(), Asking(), fakes.Add(), fakes.Show()], context)
    assert [line for line in fakes.ran() if line.startswith("among")] == ["among 1: 0"]
    assert metrics["square/value"] == 9.0


def test_what_is_stored_is_computed_by_no_rank(fakes, context):
    run(chain(fakes), context)
    fakes.ran()
    run(chain(fakes), context)
    assert sorted(fakes.ran()) == ["check show", "load square", "load sum", "show"]


def test_runs_of_one_and_of_several_share_what_does_not_depend_on_their_number(fakes, context):
    run_stages(chain(fakes), context())
    fakes.ran()
    run(chain(fakes), context)
    assert "square" not in fakes.ran()


@pytest.mark.parametrize("depends", [True, False])
def test_the_key_of_a_training_by_ranks_holds_their_number(fakes, monkeypatch, depends):
    """And that of observation does not, though threads show in it: what ranks see is merged exactly."""
    stage = collective(fakes)()
    monkeypatch.setattr(type(stage), "depends_on_threads", True, raising=False)
    monkeypatch.setattr(type(stage), "depends_on_ranks", depends, raising=False)
    several, one = identity(stage, 1, ranks=4), identity(stage, 1)
    assert ("ranks" in several) is depends and "ranks" not in one
    monkeypatch.setattr(type(stage), "collective", False)
    assert "ranks" not in identity(stage, 1, ranks=4)  # computed by rank 0 alone


def test_a_rank_that_would_compute_something_else_is_refused_by_name(fakes, context):
    with pytest.raises(PipelineError, match=r"rank 1 would compute make otherwise than rank 0(.|\n)*Remedy"):
        run(chain(fakes), context, size=2, others=chain(fakes, {"value": 4.0}))


def test_a_rank_without_rank_0s_store_is_refused(fakes, context, tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "find", lambda self, kind, key: None)
    with pytest.raises(
        PipelineError, match=r"rank 1 does not find .*number(.|\n)*store.path that all machines"
    ):
        run(chain(fakes), context, size=2)


def test_a_stage_that_fails_on_rank_0_ends_all(fakes, context):
    with pytest.raises(PipelineError, match="square refuses"):
        run(chain(fakes, refuse=True), context)


def test_a_stage_that_does_not_fit_so_many_is_refused_by_all_reasons(fakes):
    stage = collective(fakes)()
    type(stage).misfits_of_ranks = lambda self, size: [f"three at most, not {size}"] if size > 3 else []
    check_ranks([fakes.Make(), stage], 3)
    with pytest.raises(ConfigError, match=r"do not fit 4 ranks:\n  stage 'square': three at most, not 4"):
        check_ranks([fakes.Make(), stage], 4)
