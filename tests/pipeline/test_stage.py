"""The order of a run's stages: what stands for several, and what takes the place of others."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from pipeline.stage import in_order


def stage(name: str, produces: type | None, **more: Any) -> Any:
    return SimpleNamespace(name=name, produces=produces, **more)


def names(**configured: Any) -> list[str]:
    return [one.name for one in in_order(configured)]


def test_a_stage_takes_the_place_of_all_up_to_the_last_that_makes_the_same(caplog):
    caplog.set_level(logging.INFO, logger="pipeline.stage")
    there = {
        "load": stage("load", int, instead=True),
        "train": stage("train", str),
        "skipped": None,
        "convert": stage("convert", int),
        "tune": stage("tune", float),
        "again": stage("again", int),
        "report": stage("report", None),
    }
    assert names(**there) == ["load", "report"]
    assert "stage load takes the place of train, convert, tune, again" in caplog.text


def test_it_takes_no_place_where_nothing_else_makes_that():
    there = {"load": stage("load", int, instead=True), "train": stage("train", str)}
    assert names(**there) == ["load", "train"]


def test_others_stay():
    there = {"first": stage("first", int), "second": stage("second", int, instead=False)}
    assert names(**there) == ["first", "second"]
