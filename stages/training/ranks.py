"""The processes of a run as a process group of torch: gloo on CPUs, nccl on GPUs.

``torchrun`` says by environment variables who a process is and where the others are met. Beside the group
that computes there is one of gloo for words between ranks, in which those that follow wait for as long as
rank 0 computes alone. A rank that fails leaves its reason where the others look when they lose it.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from pipeline.environment import LaunchedProcess, launched
from pipeline.errors import ConfigError, PipelineError, worded
from pipeline.ranks import RankLostError, Ranks

PATIENCE = timedelta(days=30)
"""How long a rank may compute alone while the others wait; one that ends is noticed at once."""

ANSWER = 3.0
"""Seconds in which a rank that failed leaves its reason."""


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """Make the processes that torchrun started one run.

    Args:
        mode: ``ddp``: every rank takes its share of each batch; None for one process.
        device: of the run: ``cpu`` talks by gloo, ``cuda`` by nccl, a GPU a rank.
        timeout: seconds that a rank waits for the others in the middle of a stage, > 0.
    """

    mode: Literal["ddp"] | None = None
    device: str = "cpu"
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        if not self.timeout > 0.0:
            raise ValueError(f"timeout={self.timeout}: must be positive, in seconds; 1800 is usual")

    @property
    def together(self) -> bool:
        """Whether the mode asks for several processes."""
        return self.mode is not None

    def check(self) -> None:
        """Raise `PipelineError` where there is no such device, or no GPU for each rank."""
        check_device(self.device)
        if self.together:
            check_gpus(self.device, launched() or LaunchedProcess(rank=0, size=1))

    @contextmanager
    def join(self) -> Iterator[Ranks]:
        """Meet the others, and part from them at the end.

        Raises:
            PipelineError: they cannot be met.
        """
        place = launched() or LaunchedProcess(rank=0, size=1)
        store, control = self._meet(place)
        try:
            yield ProcessGroup(place, store, control)
        finally:
            with suppress(RuntimeError):  # where another has gone before
                dist.destroy_process_group()

    def _meet(self, place: LaunchedProcess) -> tuple[Store, dist.ProcessGroup]:
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            torch.cuda.set_device(place.local_rank)
        wait = timedelta(seconds=self.timeout)
        try:
            found, rank, size = next(rendezvous("env://", timeout=wait))
            store = PrefixStore("pipeline", found)
            dist.init_process_group(
                "nccl" if on_gpu else "gloo",
                store=PrefixStore("work", store),
                rank=rank,
                world_size=size,
                timeout=wait,
            )
            control = dist.new_group(backend="gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError, OSError) as error:
            raise PipelineError(
                f"training.distributed={self.mode}: rank {place.rank} of {place.size} does not meet the "
                f"others ({str(error).splitlines()[0]}). Remedy: torchrun on every machine, with the same "
                "--rdzv-endpoint, or MASTER_ADDR and MASTER_PORT, and ports that they reach each other by"
            ) from error
        return store, control


def check_device(device: str) -> None:
    """Raise `ConfigError` where torch knows or finds no such device here."""
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"device={device}: torch knows no such device. Remedy: device=cpu, or cuda"
        ) from error
    if kind.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={device}: must be cpu or cuda, which trainings are known to work on")
    if kind.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device={device}: torch {torch.__version__} finds no GPU here. Remedy: device=cpu; or a build "
            "of torch for CUDA, and its driver"
        )
    if kind.type == "cuda" and kind.index is not None and kind.index >= torch.cuda.device_count():
        raise ConfigError(
            f"device={device}: this machine has {torch.cuda.device_count()} GPUs, numbered from 0. Remedy: "
            "device=cuda"
        )


def check_gpus(device: str, place: LaunchedProcess) -> None:
    """Raise `PipelineError` where a rank has no GPU of its own on `device`."""
    if not device.startswith("cuda"):
        return
    if not dist.is_nccl_available():
        raise ConfigError(
            f"device={device}: ranks on GPUs talk by nccl, which torch {torch.__version__} is built without. "
            "Remedy: device=cpu, whose ranks talk by gloo; or another build of torch"
        )
    if device != "cuda":
        raise ConfigError(
            f"device={device}: is one GPU, which all ranks would share. Remedy: device=cuda, which gives "
            "each rank of a machine the GPU of its number"
        )
    count = torch.cuda.device_count()
    if place.local_rank >= count:
        raise PipelineError(
            f"device=cuda: rank {place.rank} is number {place.local_rank} of this machine, which has {count} "
            f"GPUs. Remedy: torchrun --nproc-per-node={count}"
        )


class ProcessGroup:
    """`pipeline.ranks.Ranks` over torch.distributed, with sums of tensors beside them."""

    def __init__(self, place: LaunchedProcess, store: Store, control: dist.ProcessGroup) -> None:
        self.rank, self.size = place.rank, place.size
        self._local_rank = place.local_rank
        self._store = store
        self._control = control

    def device(self, given: str) -> str:
        """``cuda`` is the GPU of the rank's number on its machine."""
        return f"cuda:{self._local_rank}" if given == "cuda" else given

    def agree(self, value: Any = None) -> Any:
        """Rank 0's value, as JSON."""
        return json.loads(self.share(b"" if self.rank else json.dumps(value).encode()))

    def share(self, data: bytes) -> bytes:
        """Rank 0's bytes."""
        with self._talking():
            count = torch.tensor([len(data)])
            dist.broadcast(count, 0, group=self._control)
            content = _as_tensor(data) if not self.rank else torch.empty(int(count), dtype=torch.uint8)
            if len(content):
                dist.broadcast(content, 0, group=self._control)
        return content.numpy().tobytes()

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of all ranks on rank 0, one rank's after the other's."""
        with self._talking():
            if self.rank:
                dist.send(torch.tensor([len(data)]), 0, group=self._control)
                dist.send(_as_tensor(data), 0, group=self._control)
                return []
            found = [data]
            for other in range(1, self.size):
                count = torch.zeros(1, dtype=torch.int64)
                dist.recv(count, other, group=self._control)
                content = torch.empty(int(count), dtype=torch.uint8)
                dist.recv(content, other, group=self._control)
                found.append(content.numpy().tobytes())
        return found

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place; equal on all of them, to the bit."""
        with self._talking():
            dist.all_reduce(tensor)
        return tensor

    def extremes(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The least of all ranks' `low` and the largest of their `high`, new tensors of the same shape."""
        both = torch.stack([low.neg(), high])
        with self._talking():
            dist.all_reduce(both, dist.ReduceOp.MAX)
        return both[0].neg(), both[1]

    def spread(self, tensor: Tensor) -> None:
        """Overwrite the tensor, contiguous, with rank 0's."""
        with self._talking():
            dist.broadcast(tensor, 0)

    def blame(self, error: BaseException) -> BaseException:
        """What has ended this rank; where that is its own error, the others can read it."""
        if isinstance(error, RankLostError):
            return error
        if not isinstance(error, Exception):  # ended from outside: because another rank has failed?
            reason = self._reason(0.0)
            if reason is None or self.rank:
                return error
            _unhurried()
            return RankLostError(reason)
        with suppress(RuntimeError):
            text = worded(error)
            self._store.set(f"failed/{self.rank}", text)
            deadline = time.monotonic() + (ANSWER if self.rank else 0.0)
            while time.monotonic() < deadline:  # what all ranks see alike, rank 0 alone says
                if self._failure(0) == text:
                    return RankLostError(text)
                time.sleep(0.05)
        return error

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Say which rank has ended, in the place of a transport's errors."""
        try:
            yield
        except RuntimeError as error:
            _unhurried()
            text = str(error).splitlines()[0]
            if "timed out" in text.lower() or "timeout" in text.lower():
                raise RankLostError(
                    f"another rank does not answer ({text}). Remedy: ranks.timeout=…, in seconds, where one "
                    "of them has more to do than the others"
                ) from error
            raise RankLostError(
                self._reason(ANSWER)
                or "another rank has ended without a word: it was killed, or its machine is out of memory or "
                f"reach ({text})"
            ) from error

    def _reason(self, seconds: float) -> str | None:
        """What another rank has left, waited for; None where none has."""
        deadline = time.monotonic() + seconds
        while True:
            for rank in range(self.size):
                if rank != self.rank and (text := self._failure(rank)) is not None:
                    return f"rank {rank} failed: {text}"
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)

    def _failure(self, rank: int) -> str | None:
        with suppress(RuntimeError):  # the store has gone with rank 0, or its machine
            if self._store.check([f"failed/{rank}"]):
                left: bytes = self._store.get(f"failed/{rank}")
                return left.decode(errors="replace")
        return None


def _unhurried() -> None:
    """Let the launcher, which ends this rank because another one has failed, wait until that is recorded."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
