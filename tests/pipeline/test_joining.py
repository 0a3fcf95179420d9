"""When processes become one run, and when they are refused."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from pipeline import joining
from pipeline.environment import launched
from pipeline.errors import ConfigError, PipelineError
from pipeline.joining import arguments_of_rank, check_no_sweep, follows, joined, say_of_rank
from pipeline.ranks import Alone, RankLostError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")


@pytest.fixture
def placed(monkeypatch):
    """Makes this process a rank, as torchrun does."""

    def place(rank: int, size: int) -> None:
        for name, value in zip(VARIABLES, (rank, size, rank, size, "127.0.0.1"), strict=True):
            monkeypatch.setenv(name, str(value))

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return place


class Joins:
    """What a configuration has under ``ranks``."""

    def __init__(self, together: bool) -> None:
        self.together = together

    def check(self):
        pass

    @contextmanager
    def join(self):
        ranks = Alone()
        ranks.size = 2
        yield ranks


def test_a_place_is_what_all_variables_say_together():
    whole = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "host"}
    place = launched(whole)
    assert place is not None and (place.rank, place.size, place.local_rank, place.local_size) == (3, 8, 0, 1)
    place = launched(whole | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    assert place is not None and (place.local_rank, place.local_size) == (1, 2)
    for name in whole:
        assert launched({**whole, name: ""}) is None
        assert launched({key: value for key, value in whole.items() if key != name}) is None
    assert launched(whole | {"RANK": "-1"}) is None


@pytest.mark.parametrize("asked", [None, Joins(False)])
def test_a_process_alone_is_a_run(placed, asked):
    with joined(asked) as ranks:
        assert (ranks.rank, ranks.size, ranks.device("cuda:1")) == (0, 1, "cuda:1")
        assert (
            ranks.agree({"a": 1}) == {"a": 1} and ranks.share(b"x") == b"x" and ranks.gather(b"x") == [b"x"]
        )
    placed(0, 1)  # torchrun with one process
    with joined(asked) as ranks:
        assert ranks.size == 1


def test_several_are_one_run_where_that_is_wanted(placed):
    placed(1, 2)
    with joined(Joins(True)) as ranks:
        assert ranks.size == 2
    with pytest.raises(ConfigError) as refusal, joined(Joins(False)):
        pass
    assert "2 processes were started together" in str(refusal.value)
    assert "torchrun --nproc-per-node=2 -m pipeline training.distributed=ddp" in str(refusal.value)


def test_several_are_wanted_and_there_is_one(placed):
    with pytest.raises(ConfigError) as refusal, joined(Joins(True)):
        pass
    assert "there is one process" in str(refusal.value)
    assert "Remedy: torchrun --nproc-per-node=2 -m pipeline training.distributed=ddp" in str(refusal.value)


def test_a_sweep_by_each_of_several_is_refused(placed):
    check_no_sweep(True)
    placed(0, 1)
    check_no_sweep(True)
    placed(0, 4)
    check_no_sweep(False)
    with pytest.raises(ConfigError, match=r"-m under torchrun: each of the 4 processes(.|\n)*Remedy"):
        check_no_sweep(True)


def test_who_follows_writes_into_a_folder_that_is_gone_after(placed, tmp_path):
    given = ["seed=1", "hydra.run.dir=outputs/mine"]
    with arguments_of_rank(given) as taken:
        assert taken == given and not follows()
    placed(1, 2)
    with arguments_of_rank(given) as taken:
        seed, folder, no_folder = taken
        assert seed == "seed=1" and no_folder == "hydra.output_subdir=null" and follows()
        path = tmp_path.__class__(folder.partition("=")[2])
        assert path.is_dir() and folder.startswith("hydra.run.dir=")
    assert not path.exists()


@pytest.mark.parametrize(
    ("error", "said", "waits"),
    [
        (PipelineError("no data"), "rank 2: no data\n", 0),
        (KeyError("x"), "rank 2: KeyError: 'x'\n", 0),
        (RankLostError("rank 0 failed: no data"), "", 0),
        (ConfigError("bits=9"), "rank 2: bits=9\n", 1),  # rank 0 says so too, and the launcher ends this one
    ],
)
def test_who_follows_says_what_rank_0_does_not(placed, monkeypatch, capsys, error, said, waits):
    slept = []
    monkeypatch.setattr(joining.time, "sleep", slept.append)
    placed(2, 3)
    say_of_rank(error)
    assert capsys.readouterr().err == said and len(slept) == waits
