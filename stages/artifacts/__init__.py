"""The artifacts of the pipeline: what stages hand on, and what the store keeps.

All files are JSON and safetensors; nothing is pickled. `IntegerProgram` is also the deployed thing:

    from stages.artifacts import IntegerProgram
    program = IntegerProgram.load(path)
    logits = program.run(x, backend="onednn")      # float (N, C, H, W) in, float logits out
    q = program.run_integers(q, backend="reference")  # levels in, levels out

Each is imported when it is asked for, so that who asks for one depends on no other: a training not on the
integer engine, and the integer program not on torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.artifacts.compared import LayerParity as LayerParity
    from stages.artifacts.compared import Parity as Parity
    from stages.artifacts.compared import RoundingCost as RoundingCost
    from stages.artifacts.compared import Roundings as Roundings
    from stages.artifacts.integer_program import IntegerProgram as IntegerProgram
    from stages.artifacts.measured import Metrics as Metrics
    from stages.artifacts.measured import Speed as Speed
    from stages.artifacts.measured import Speeds as Speeds
    from stages.artifacts.measured import Verdict as Verdict
    from stages.artifacts.networks import FloatModel as FloatModel
    from stages.artifacts.networks import NarrowedLayer as NarrowedLayer
    from stages.artifacts.networks import QuantizedModel as QuantizedModel
    from stages.artifacts.observed import Baseline as Baseline
    from stages.artifacts.observed import Observations as Observations
    from stages.artifacts.runtimes import LayerDifference as LayerDifference
    from stages.artifacts.runtimes import RuntimeComparison as RuntimeComparison
    from stages.artifacts.runtimes import RuntimeResult as RuntimeResult
    from stages.artifacts.trained import TrainedModel as TrainedModel

_HOMES = {
    "Baseline": "observed",
    "FloatModel": "networks",
    "IntegerProgram": "integer_program",
    "LayerDifference": "runtimes",
    "LayerParity": "compared",
    "Metrics": "measured",
    "NarrowedLayer": "networks",
    "Observations": "observed",
    "Parity": "compared",
    "QuantizedModel": "networks",
    "RoundingCost": "compared",
    "Roundings": "compared",
    "RuntimeComparison": "runtimes",
    "RuntimeResult": "runtimes",
    "Speed": "measured",
    "Speeds": "measured",
    "TrainedModel": "trained",
    "Verdict": "measured",
}


def __getattr__(name: str) -> Any:
    """Import an artifact's module; the name is then an attribute as any other."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
