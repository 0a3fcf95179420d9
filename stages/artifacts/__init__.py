"""The artifacts of the pipeline: what stages hand on, and what the store keeps.

All files are JSON and safetensors; nothing is pickled. `IntegerProgram` is also the deployed thing:

    from stages.artifacts import IntegerProgram
    program = IntegerProgram.load(path)
    logits = program.run(x, backend="onednn")      # float (N, C, H, W) in, float logits out
    q = program.run_integers(q, backend="reference")  # levels in, levels out
"""

from stages.artifacts.compared import LayerParity, Parity, RoundingCost, Roundings
from stages.artifacts.integer_program import IntegerProgram
from stages.artifacts.measured import Metrics, Speed, Speeds, Verdict
from stages.artifacts.networks import FloatModel, QuantizedModel
from stages.artifacts.observed import Baseline, Observations

__all__ = [
    "Baseline",
    "FloatModel",
    "IntegerProgram",
    "LayerParity",
    "Metrics",
    "Observations",
    "Parity",
    "QuantizedModel",
    "RoundingCost",
    "Roundings",
    "Speed",
    "Speeds",
    "Verdict",
]
