"""A zoo of networks that take no time, one for each thing that may become of a network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from stages.benchmarking.zoo import Network


class Cumulating(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(self.fc(x), dim=-1)


class MixingSamples(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ x.T


class Sleeping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:
            time.sleep(30)
        except Exception:  # as torch.export does: whatever it is, it is no reason of the network's
            return x
        return x


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        raise RuntimeError("no such thing")


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.table(x))


MODULES = {
    "plain": partial(nn.Linear, 8, 4),
    "cumulating": Cumulating,
    "mixing": MixingSamples,
    "broken": Broken,
    "words": Words,
}


@dataclass(frozen=True, kw_only=True)
class SmallZoo:
    name: ClassVar[str] = "small"

    def check(self) -> None:
        pass

    def families(self) -> tuple[str, ...]:
        return (*MODULES, "none", "huge")

    def network(self, family: str) -> Network:
        if family == "none":
            raise ValueError("no model of none can be built")
        if family == "huge":
            return Network(name="huge", parameters=10**9, shape=(8,), build=Broken)
        words = family == "words"
        return Network(
            name=f"{family}_s",
            parameters=36,
            shape=(5,) if words else (8,),
            dtype=torch.int64 if words else torch.float32,
            build=MODULES[family],
        )
