"""Stage *train*: the weights of the float network, given or from a training, trained further or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import nn

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs
from stages.artifacts import TrainedModel
from stages.data.base import Data
from stages.data.batches import input_dtype
from stages.models.base import Model, build, fingerprint_of, is_trained, weights_of
from stages.tasks.base import Task, require_learnable, require_recipe
from stages.tasks.classification import Classification
from stages.training.checkpoint import Epoch
from stages.training.fit import FloatTraining, fit, misfits_of_shares


@dataclass(frozen=True, kw_only=True)
class Train:
    """Build the model; train it unless ``model.weights`` is given; train it further if asked to.

    Args:
        model: the architecture, and the file of its weights if there is one.
        data: the data set whose training split is used.
        training: the recipe; not used with given weights.
        further: the recipe of a second training, from given weights or where the first ended; None for none.
        initial_weights: ``given``: those of ``model.weights``, where there are any; ``random``, even so.
        task: what is learned.
    """

    name: ClassVar[str] = "train"
    consumes: ClassVar[tuple[type, ...]] = ()
    produces: ClassVar[type] = TrainedModel
    cacheable: ClassVar[bool] = True
    uses_device: ClassVar[bool] = True

    model: Model
    data: Data
    training: FloatTraining
    further: FloatTraining | None = None
    initial_weights: Literal["given", "random"] = "given"
    task: Task = field(default_factory=Classification)

    def __post_init__(self) -> None:
        for path, recipe in (("training.float", self.training), ("training.further", self.further)):
            if recipe is not None:
                require_recipe(
                    self.task, path, label_smoothing=recipe.label_smoothing, augment=recipe.augment
                )

    @property
    def depends_on_threads(self) -> bool:
        """Where anything is trained."""
        recipes = (None if self._trained() else self.training, self.further)
        return any(recipe.epochs > 0 for recipe in recipes if recipe is not None)

    @property
    def collective(self) -> bool:
        """Where anything is trained: ranks divide its batches."""
        return self.depends_on_threads

    @property
    def depends_on_ranks(self) -> bool:
        """Where anything is trained: shares of a batch order its sums."""
        return self.depends_on_threads

    def misfits_of_ranks(self, size: int) -> Iterator[str]:
        """Batches with fewer samples than ranks."""
        first = None if self._trained() else self.training
        for path, recipe in (("training.float", first), ("training.further", self.further)):
            if recipe is not None and recipe.epochs > 0:
                yield from misfits_of_shares(path, recipe, size)

    def check(self) -> None:
        """Raise for missing data, labels that cannot be learned from, and weights that do not fit."""
        self.data.check()
        if self.depends_on_threads:
            require_learnable(self.task, np.asarray(self.data.train().labels))
        with torch.random.fork_rng(devices=[]):
            self.model.build(self.data.shape, self._outputs())

    def run(self, ctx: RunContext, inputs: Inputs) -> TrainedModel:
        """Train where there are no weights, then further; a killed training goes on from its last epoch."""
        module = build(self._start(), self.data, ctx.seed, self._outputs())
        if not self._trained():
            self._fit(ctx, module, self.training, "train")
        if self.further is not None:
            self._fit(ctx, module, self.further, "further")
        return TrainedModel.of(module)

    def _outputs(self) -> int:
        return self.task.outputs(self.data.num_classes)

    def fingerprint(self) -> str:
        """The model's: a class of the user's own may have none."""
        return fingerprint_of(self.model)

    def _trained(self) -> bool:
        return self.initial_weights == "given" and is_trained(self.model)

    def _start(self) -> Model:
        """The model without its weights, where training starts from random ones."""
        if self._trained() or not is_trained(self.model):
            return self.model
        component: Any = self.model
        replaceable = "weights" in getattr(component, "__dataclass_fields__", {})
        if not replaceable or weights_of(self.model) is None:
            raise PipelineError(
                f"training.initial_weights=random: the weights of {type(component).__name__} cannot be left "
                "out. Remedy: a dataclass with a field weights; model.pretrained=false with a target that "
                "gives random ones; or model.weights=null"
            )
        start: Any = replace(component, weights=None)
        return cast(Model, start)

    def _fit(self, ctx: RunContext, module: nn.Module, recipe: FloatTraining, name: str) -> None:
        def record(number: int, epoch: Epoch) -> None:
            values = {
                f"{name}/loss": epoch.loss,
                f"{name}/{self.task.batched.key}": epoch.quality,
                f"{name}/held_out_{self.task.batched.key}": epoch.held_out,
            }
            ctx.tracker.metrics({k: v for k, v in values.items() if not math.isnan(v)}, step=number)

        with _as_taken(module, input_dtype(self.data)):
            fit(
                module,
                self.data,
                recipe,
                task=self.task,
                seed=ctx.seed,  # the order of *finetune*, whose rival the further training is
                device=ctx.device,
                progress=ctx.console.progress,
                on_epoch=record,
                on_resume=lambda where: ctx.resumed(name, where),
                checkpoint=ctx.scratch / f"{name}.safetensors",
                ranks=ctx.ranks,
            )


@contextmanager
def _as_taken(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Give the module its inputs, which batches hold as float32, as `dtype`."""
    hook = module.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
