"""One network of a zoo, followed from its module to integers; and what became of all of them, an artifact."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from pipeline.errors import PipelineError
from stages.benchmarking.zoo import Network
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.simulate import Simulation
from stages.integer.interpreter import Interpreter, dequantize_output, quantize_input
from stages.integer.program import Requantize
from stages.measuring.accuracy import sqnr_db
from stages.measuring.preflight import lowered, noise, placed
from stages.quant.granularity.base import Granularity
from stages.quant.quantizers.base import WeightsAndActivations

ON_INTEGERS = 0.95
"""The share of operations from which a network counts as one on integers."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What became of one network.

    Args:
        zoo: that it is of.
        family: of architectures.
        network: its name.
        parameters: how many it has.
        captured: whether there is a graph of it.
        equal: whether simulation and reference interpreter agree on every level of every value.
        operators: of the graph, after folding and fusing.
        operations: of one sample.
        on_integers: the share of them that integers do, 0..1.
        islands: by function that stays float, ``share of operations: reason``.
        sqnr_db: of the output against the float network's, on noise; None where it is not defined.
        refused: why it did not come to the end; empty where it did.
        seconds: that all took.
    """

    zoo: str
    family: str
    network: str = ""
    parameters: int = 0
    captured: bool = False
    equal: bool = False
    operators: int = 0
    operations: int = 0
    on_integers: float = 0.0
    islands: Mapping[str, str] = field(default_factory=dict)
    sqnr_db: float | None = None
    refused: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        """A line for the console."""
        islands = "; ".join(f"{name} {why}" for name, why in self.islands.items())
        words = [f"{self.zoo}/{self.family}: {self.network}, {self.seconds:.0f} s"]
        if self.captured:
            words.append(f"{self.operators} operators, {self.on_integers:.1%} of operations on integers")
        if self.refused:
            words.append(f"refused: {' '.join(self.refused.split())}")
        elif not self.equal:
            words.append("NOT EQUAL")
        return ", ".join([*words, *([f"float: {islands}"] if islands else [])])


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What became of all networks of all zoos.

    Args:
        networks: one a family.
        left_out: by ``zoo/family``, the parameters of the smallest network, where they are too many.
    """

    kind: ClassVar[str] = "coverage"

    networks: tuple[Followed, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """``coverage/<zoo>/{families,captured,equal,integers_95}``: numbers of families."""
        values: dict[str, float] = {}
        for zoo in dict.fromkeys(one.zoo for one in self.networks):
            own = [one for one in self.networks if one.zoo == zoo]
            counts = {
                "families": len(own),
                "captured": sum(one.captured for one in own),
                "equal": sum(one.equal for one in own),
                "integers_95": sum(one.equal and one.on_integers >= ON_INTEGERS for one in own),
            }
            values |= {f"coverage/{zoo}/{name}": float(number) for name, number in counts.items()}
        return values

    def save(self, directory: Path) -> None:
        """Write coverage.json."""
        (directory / "coverage.json").write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        document: dict[str, Any] = json.loads((directory / "coverage.json").read_text())
        return cls(**{**document, "networks": tuple(Followed(**one) for one in document["networks"])})


@dataclass(frozen=True, kw_only=True)
class Follower:
    """How networks are followed: the schemes, the noise, and the time that one may take.

    Args:
        quantizer: the schemes of weights and activations.
        granularity: which weights share a scale.
        requantize: how accumulators become levels.
        samples: of noise, on which the network is calibrated and compared.
        timeout: seconds that one network may take; no limit outside of the main thread.
    """

    quantizer: WeightsAndActivations
    granularity: Granularity
    requantize: Requantize = "float"
    samples: int = 1
    timeout: float = 240.0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.timeout <= 0:
            values = f"samples={self.samples}, timeout={self.timeout}"
            raise ValueError(f"{values}: samples must be at least 1, the timeout above 0")

    def follow(self, zoo: str, family: str, network: Network, seed: int) -> Followed:
        """Follow one network as far as it goes; whatever stops it is its reason."""
        begun = time.perf_counter()
        found: dict[str, Any] = {"network": network.name, "parameters": network.parameters}
        try:
            with _within(self.timeout):
                self._follow(network, seed, found)
        except _TimeoutError:
            found |= {"refused": f"takes longer than {self.timeout:g} s", "equal": False}
        except PipelineError as error:
            found["refused"] = str(error)
        except Exception as error:  # a fault of the pipeline or of the zoo: named, and the others go on
            found["refused"] = f"{type(error).__name__}: {error}"
        return Followed(zoo=zoo, family=family, seconds=time.perf_counter() - begun, **found)

    def _follow(self, network: Network, seed: int, found: dict[str, Any]) -> None:
        """Fill `found` step by step, so that what was learned stays where a later step fails."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = network.build()
        captured = capture(module, network.shape, dtype=network.dtype)
        del module
        graph = fuse(fold_batch_norm(captured))
        found |= {"captured": True, "operators": len(graph.nodes) - 1}
        x = noise(graph, self.samples)
        quantized, program = lowered(graph, x, self.quantizer, self.granularity, self.requantize)
        operators = tuple(placed(quantized, program))
        total = max(1, sum(one.operations for one in operators))
        floats, reasons = Counter[str](), dict[str, str]()
        for one in operators:
            if one.place == "float island":
                floats[one.op] += one.operations
                reasons.setdefault(one.op, one.why)
        found |= {
            "operators": len(operators),
            "operations": total,
            "on_integers": 1.0 - floats.total() / total,
            "islands": {op: _told(count / total, reasons[op]) for op, count in floats.most_common()},
        }
        simulated = Simulation(program).trace(x)
        integer = Interpreter(program).trace(quantize_input(program, x.numpy()))
        unequal = [name for name, levels in simulated.items() if not np.array_equal(levels, integer[name])]
        if unequal:
            found["refused"] = f"simulation and integers differ at '{unequal[0]}', of {len(unequal)} values"
        with torch.inference_mode():
            expected = execute(graph, x).double().numpy()
        actual = dequantize_output(program, integer[program.output]).astype(np.float64)
        off = float(np.square(actual - expected).sum())
        found |= {"equal": not unequal, "sqnr_db": sqnr_db(float(np.square(expected).sum()), off)}


def _told(share: float, why: str) -> str:
    return f"{share:.1%}: {why or 'these scales leave no integers for it'}"


class _TimeoutError(BaseException):
    """Time is over. No `Exception`, which what is interrupted might take for a reason of its own."""


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `_TimeoutError` where the body takes longer; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(*_: object) -> None:
        raise _TimeoutError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
