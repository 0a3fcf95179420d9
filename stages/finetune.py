"""Stage *finetune*: quantization-aware training of the calibrated network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from pipeline.context import RunContext
from pipeline.stage import Inputs, Stage
from stages.artifacts import FloatModel, QuantizedModel
from stages.data.base import Data
from stages.graph.ir import Graph
from stages.integer.program import Requantize
from stages.quant.estimators.base import Estimator
from stages.quant.granularity.per_group import PerGroup
from stages.quant.quantizers.base import WeightsAndActivations, untrainable
from stages.quant.quantizers.chosen import chosen_granularity
from stages.tasks.base import Task, require_learnable, require_recipe
from stages.tasks.classification import Classification
from stages.training.checkpoint import Epoch
from stages.training.fit import FloatTraining, fit, misfits_of_shares
from stages.training.qat_network import QatNetwork
from stages.training.qat_objective import Distillation, QatObjective, QatSchedule
from stages.training.teacher import teacher_of


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Train with simulated quantization, from the float network and the calibrated ranges.

    Args:
        data: the data set; only its training split is used.
        quantizer: the schemes that calibrated the network.
        estimator: the backward pass of rounding.
        recipe: optimizer, learning rate and the like.
        schedule: when rounding begins, and when ranges and BatchNorm rest.
        quantizer_learning_rate: peak for what the estimator learns; None for the recipe's.
        distillation: how much of the loss compares with the float network's outputs.
        requantize: how the program will round; so does the forward pass once all that freezes has done so. In
            the fixed points each such step also runs the program, at about the cost of another forward pass.
        task: what is learned.
    """

    name: ClassVar[str] = "finetune"
    consumes: ClassVar[tuple[type, ...]] = (FloatModel, QuantizedModel)
    produces: ClassVar[type] = QuantizedModel
    cacheable: ClassVar[bool] = True
    uses_device: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True
    collective: ClassVar[bool] = True
    depends_on_ranks: ClassVar[bool] = True

    data: Data
    quantizer: WeightsAndActivations
    estimator: Estimator
    recipe: FloatTraining
    schedule: QatSchedule = field(default_factory=QatSchedule)
    quantizer_learning_rate: float | None = None
    distillation: Distillation = field(default_factory=Distillation)
    requantize: Requantize = "float"
    task: Task = field(default_factory=Classification)

    def __post_init__(self) -> None:
        if self.recipe.epochs < 1:
            raise ValueError("recipe.epochs=0: must be at least 1; training=post_training does without")
        if self.recipe.autocast:
            raise ValueError(
                "recipe.autocast=true: quantized layers compute whole numbers exactly, as the program does, "
                "and bfloat16 holds them to 256. Remedy: recipe.autocast=false; training.float.autocast and "
                "training.further.autocast are for networks in float"
            )
        require_recipe(
            self.task,
            "training.finetune.recipe",
            label_smoothing=self.recipe.label_smoothing,
            augment=self.recipe.augment,
        )
        if self.quantizer.activation is None:
            raise ValueError(
                "quantizer.activation=None: training rounds activations too. Remedy: "
                "training=post_training, or a quantizer for them"
            )
        for path, weight in self.quantizer.of_weights():
            if untrainable(weight):
                raise ValueError(
                    f"quantizer.{path}: {type(weight).__name__} chooses levels for a whole weight, which has "
                    "no gradient. Remedy: quantizer=symmetric, or training=post_training"
                )
        if self.quantizer_learning_rate is not None and not self.quantizer_learning_rate > 0.0:
            raise ValueError(
                f"quantizer_learning_rate={self.quantizer_learning_rate}: must be positive, or null for the "
                "recipe's"
            )

    def misfits(self, stages: Sequence[Stage]) -> Iterator[str]:
        """Scales of groups."""
        if isinstance(chosen_granularity(stages), PerGroup):
            yield (
                "granularity=per_group: scales of groups are not trained. Remedy: "
                "granularity=per_channel, or training=post_training"
            )

    def misfits_of_ranks(self, size: int) -> Iterator[str]:
        """Batches with fewer samples than ranks, and folding by the statistics of a share."""
        yield from misfits_of_shares("training.finetune.recipe", self.recipe, size)
        if self.schedule.batch_norm == "naive":
            yield (
                "training.finetune.schedule.batch_norm=naive: folds by the batch's statistics, of which a "
                "rank has those of its share. Remedy: batch_norm=corrected, or one process"
            )

    def check(self) -> None:
        """Raise where the data is missing, or has labels that cannot be learned from."""
        self.data.check()
        if self.distillation.weight < 1.0:
            require_learnable(self.task, np.asarray(self.data.train().labels))

    def run(self, ctx: RunContext, inputs: Inputs) -> QuantizedModel:
        """Train; a killed training goes on from its last epoch."""
        model: Graph = inputs[FloatModel].graph
        network = QatNetwork(
            model,
            inputs[QuantizedModel].quantized,
            self.quantizer,
            self.estimator,
            batch_norm=self.schedule.batch_norm,
            requantize=self.requantize,
        )
        objective = QatObjective(
            network,
            self.schedule,
            quantizer_rate=(self.quantizer_learning_rate or self.recipe.learning_rate)
            / self.recipe.learning_rate,
            label_smoothing=self.recipe.label_smoothing,
            teacher=teacher_of(model, ctx.device),
            distillation=self.distillation,
            task=self.task,
        )

        def record(number: int, epoch: Epoch) -> None:
            values = {
                "finetune/loss": epoch.loss,
                f"finetune/{self.task.batched.key}": epoch.quality,
                f"finetune/held_out_{self.task.batched.key}": epoch.held_out,
                "finetune/learning_rate": epoch.learning_rate,
            }
            ctx.tracker.metrics({k: v for k, v in values.items() if not math.isnan(v)}, step=number)

        fit(
            network,
            self.data,
            self.recipe,
            task=self.task,
            seed=ctx.seed,
            device=ctx.device,
            objective=objective,
            progress=ctx.console.progress,
            on_epoch=record,
            on_resume=lambda where: ctx.resumed("finetune", where),
            checkpoint=ctx.scratch / "finetune.safetensors",
            ranks=ctx.ranks,
        )
        return QuantizedModel(quantized=network.quantized())
