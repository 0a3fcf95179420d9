"""Random configurations, each run whole: ``python -m tests.random_runs --count 300 --seed 0``.

Every one completes with simulation and integers equal in every value of every layer, or is refused before
anything is computed. A line a run says which, and repeats it: its overrides are those of ``python -m
pipeline``. Runs share a store, so that what they have in common is computed once. `tests.test_random_runs`
runs a few.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.errors import ParityError, PipelineError
from pipeline.runner import check_wiring, run_stages
from pipeline.stage import in_order
from pipeline.store.local import Store
from pipeline.tracking.null import Null
from tests.composed import built

QUICK = (
    "tracking=none",
    "threads=1",
    "training.float.epochs=1",
    "calibration.samples=64",
    "evaluate.samples=90",
    "evaluate.parity_samples=20",
    "stages.speed=null",
)
SHORT = "training.finetune.recipe.epochs=1"
EXACT = ("native", "reference")


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    ``equal``, ``tolerated`` where the backend rounds otherwise, ``simulated`` where no integers run,
    ``refused``; or
    a failure: ``late``, refused after computing had begun, or ``broken``, a contract that did not hold.
    """

    kind: str
    detail: str = ""


def draw(rng: random.Random) -> tuple[str, ...]:
    """Overrides of one run, some of which contradict each other."""
    quantizer = rng.choice(["affine", "symmetric", "power_of_two", "stochastic", "codebook", "apot"])
    training = rng.choice(["post_training"] * 4 + ["qat_finetune", "qat_scratch", "further_then_qat"])
    backend = rng.choice(["native"] * 3 + ["reference", "onednn", "simulation"])
    corrections = [
        name for name in ("equalize", "smooth", "adaround", "reconstruct", "bias") if rng.random() < 0.2
    ]
    overrides = [
        f"quantizer={quantizer}",
        f"quantizer.weight.bits={rng.randint(2, 8)}",
        f"calibration={rng.choice(['minmax', 'moving_average', 'percentile', 'kl', 'mse'])}",
        f"granularity={rng.choice(['per_tensor', 'per_channel', 'per_channel', 'per_group'])}",
        f"training={training}",
        f"estimator={rng.choice(['ste', 'pact', 'lsq', 'dsq'])}",
        f"backend={backend}",
        f"convert.requantize={rng.choice(['float', 'fixed_point', 'fixed_point_single'])}",
        f"model={rng.choice(['mobilenet_digits', 'mobilenet_digits', 'lenet300_100', 'resnet20'])}",
        f"seed={rng.randint(0, 2)}",
    ]
    if rng.random() < 0.05:
        overrides.append("quantizer.activation=null")
    else:
        overrides.append(f"quantizer.activation.bits={rng.randint(2, 8)}")
        if rng.random() < 0.3:
            overrides.append("quantizer.residual_bits=8")
    if rng.random() < 0.3:
        overrides.append("quantizer.first_last_bits=8")
    if corrections:
        overrides.append(f"correction=[{','.join(corrections)}]")
    if "adaround" in corrections:
        overrides.append("correction.adaround.rounding.iterations=20")
    if "reconstruct" in corrections:
        overrides.append("correction.reconstruct.optimization.iterations=10")
    if training != "post_training":
        overrides.append(SHORT)
    if training == "further_then_qat":
        overrides.append("training.further.epochs=1")
    if rng.random() < 0.2:
        overrides += ["compression=channel", f"compression.narrow.recipe.epochs={rng.randint(0, 1)}"]
        overrides += [f"compression.narrow.method.round_to={rng.choice([1, 4])}"]
    return tuple(overrides)


def run(overrides: tuple[str, ...], folder: Path) -> Outcome:
    """One run in a folder of its own, over the store that all of them share."""
    begun: list[str] = []

    class Watching(Console):
        def stage(self, name: str, *, cached: bool, seconds: float) -> None:
            begun.append(name)

    try:
        config = built(*QUICK, *overrides)
        stages = in_order(config.stages)
        check_wiring(stages)
    except PipelineError as refusal:
        return Outcome("refused", str(refusal).strip().splitlines()[-1])
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    ctx = RunContext(
        run_dir=run_dir,
        seed=config.seed,
        device="cpu",
        tracker=Null(),
        store=Store(folder / "store", warn=lambda text: None),
        console=Watching(quiet=True),
    )
    for stage in stages:  # as the runner does before it computes; what is stored needs no check there
        try:
            stage.check()
        except PipelineError as refusal:
            return Outcome("refused", str(refusal).strip().splitlines()[-1])
    try:
        metrics = run_stages(stages, ctx)
    except ParityError as broken:
        return Outcome("broken", str(broken).splitlines()[0])
    except PipelineError as refusal:
        return Outcome("late", f"after {begun[-1:]}: {refusal}".splitlines()[0])
    if "integer/agreement" not in metrics:
        return Outcome("simulated")
    if metrics["integer/agreement"] == 1.0 and metrics["parity/max_off_by"] == 0.0:
        return Outcome("equal")
    exact = any(f"backend={name}" in overrides for name in EXACT)
    return Outcome("broken" if exact else "tolerated", f"off by {metrics['parity/max_off_by']:.0f}")


def main() -> int:
    """Run them; the exit code is 1 where one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep runs and store here")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="random-runs-"))
    folder.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    for number in range(options.count):
        overrides = draw(rng)
        start = time.perf_counter()
        outcome = run(overrides, folder)
        counts[outcome.kind] += 1
        seconds = time.perf_counter() - start
        print(
            f"{number:4d} {outcome.kind:9s} {seconds:5.1f}s  {' '.join(overrides)}  {outcome.detail}",
            flush=True,
        )
    print(dict(counts))
    return 1 if counts["late"] or counts["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
