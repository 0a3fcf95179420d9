"""A run's settings reach the libraries before they load."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from pipeline import session


@pytest.mark.parametrize(
    ("threads", "given", "expected"),
    [
        (3, "5", 3),
        (None, "5", 5),
        (None, "", 2),  # a container's share of the cores, not all that the libraries would count
    ],
)
def test_threads_are_those_set_those_of_the_shell_or_the_cores_that_may_be_used(
    monkeypatch, threads, given, expected
):
    hydra = SimpleNamespace(mode=RunMode.RUN, launcher={})
    monkeypatch.setattr(session, "HydraConfig", SimpleNamespace(get=lambda: hydra))
    monkeypatch.setattr(session, "default_threads", lambda: 2)
    monkeypatch.setattr(session, "_GIVEN", given)
    assert session.threads_of(OmegaConf.create({"threads": threads})) == expected
