"""ncnn, with the network translated by pnnx: sample after sample, since its blobs have no batch dimension.

Its int8 layers need tools (``ncnn2table``, ``ncnn2int8``) that its package does not have.
"""

from __future__ import annotations

import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from stages.benchmarking.competitor import Case
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class NcnnFloat:
    """The float network with the settings of its package: weights stored as float16, sums in float32.

    Args:
        bf16: store activations and weights as bfloat16.
    """

    packages: ClassVar[tuple[str, ...]] = ("ncnn", "pnnx")
    extra: ClassVar[str] = "peers"

    bf16: bool = False
    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Trace, translate and load. Raises RuntimeError where a layer of the network is not ncnn's."""
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = case.threads
        net.opt.use_vulkan_compute = False
        if self.bf16:
            net.opt.use_bf16_storage = net.opt.use_bf16_packed = True
        parameters, weights = _translated(case)
        if foreign := _foreign_layers(parameters, ncnn):
            raise RuntimeError(f"ncnn has no layer {', '.join(foreign)}, which pnnx left in the network")
        if net.load_param(str(parameters)) or net.load_model(str(weights)):
            raise RuntimeError("ncnn does not load what pnnx made of the network")
        samples = [np.ascontiguousarray(x) for x in case.x.numpy()]

        def one(x: Any) -> Any:
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(x))
            status, y = extractor.extract("out0")
            if status:
                raise RuntimeError(f"ncnn gives no output: status {status}")
            return np.array(y)

        return lambda: np.stack([one(x) for x in samples])


def _translated(case: Case) -> tuple[Path, Path]:
    """The files of parameters and weights."""
    import pnnx

    folder = case.scratch / "ncnn"
    parameters, weights = folder / "net.ncnn.param", folder / "net.ncnn.bin"
    if not parameters.exists():
        folder.mkdir(exist_ok=True)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.jit.trace(  # type: ignore[no-untyped-call]
                case.module, case.x[:1], check_trace=False
            ).save(str(folder / "net.pt"))
        shape = ",".join(str(size) for size in (1, *case.x.shape[1:]))
        command = [pnnx.EXEC_PATH, "net.pt", f"inputshape=[{shape}]", "fp16=0"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if not parameters.exists():
            last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise RuntimeError(f"pnnx does not translate the network: {last}")
    return parameters, weights


def _foreign_layers(parameters: Path, ncnn: Any) -> list[str]:
    """The kinds of layers in the file that ncnn does not know, each once."""
    lines = parameters.read_text(encoding="utf-8").splitlines()[2:]
    kinds = dict.fromkeys(line.split()[0] for line in lines if line.strip())
    return [kind for kind in kinds if "." in kind or "::" in kind or ncnn.layer_to_index(kind) < 0]
