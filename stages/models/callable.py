"""Any callable that gives a `torch.nn.Module`: a class of one's own, a library's factory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from pipeline.errors import PipelineError, alternatives
from stages.models.named_inputs import with_inputs
from stages.models.weights import load_weights, weights_fingerprint

FACTS = ("data.num_classes", "data.shape", "data.channels", "data.height", "data.width")
"""Arguments that stand for what the data set says; any other text is passed as it is."""


@dataclass(frozen=True, kw_only=True)
class TorchModel:
    """What ``target(**args)`` gives: ``model.target=timm.create_model model.args={model_name: resnet18}``.

    Shape and number of classes are passed where an argument, at any depth, is one of these texts, and not
    otherwise: ``data.num_classes``, ``data.shape`` (a list), ``data.channels`` (the first of the shape),
    ``data.height`` and ``data.width`` (the last two): ``model.args={num_classes: data.num_classes}``.

    Args:
        target: the callable, by its dotted name.
        args: its arguments by name; None for none.
        weights: file of trained weights, or None.
        pretrained: whether the target itself gives trained weights, so that nothing is trained.
        key: under which key of the file they stand; None where that is clear.
        output: which of several results, by key or position; None for the first.
        inputs: the shapes of several inputs by name, which stand one after the other in a sample; None for
            one. ``model.inputs={input_ids: [64], attention_mask: [64]}`` takes samples of 128 numbers.
    """

    target: Callable[..., Any]
    args: Mapping[str, Any] | None = field(default=None)
    weights: str | None = None
    pretrained: bool = False
    key: str | None = None
    output: str | int | None = None
    inputs: Mapping[str, tuple[int, ...]] | None = None

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Call the target, and load the weights.

        Raises:
            PipelineError: the call fails, it does not give a module, or weights that do not fit it.
        """
        facts: dict[str, Any] = {"data.num_classes": num_classes, "data.shape": list(shape)}
        facts |= dict(zip(("data.channels", "data.height", "data.width"), _dimensions(shape), strict=True))
        arguments = {name: _filled(value, facts) for name, value in (self.args or {}).items()}
        try:
            module = self.target(**arguments)
        except PipelineError:
            raise
        except Exception as error:  # the user's own code, or a library's: anything may be raised
            text = (str(error).strip().splitlines() or [""])[0]
            raise PipelineError(
                f"model.target={self._name}: calling it with {_listed(arguments)} failed: "
                f"{type(error).__name__}: {text}\n"
                f"Remedy: model.args={{…}}; it takes {_signature(self.target)}{_mistaken(arguments, facts)}"
            ) from error
        if not isinstance(module, nn.Module):
            raise PipelineError(
                f"model.target={self._name}: gives a {type(module).__name__}, not a torch.nn.Module.\n"
                "Remedy: name a class of a network, or a function that returns one, as timm.create_model; "
                "of a pipeline or wrapper, a function of your own that returns the module within"
            )
        return with_inputs(
            load_weights(module, self.weights, self._name, self.key), self.inputs, tuple(shape)
        )

    def fingerprint(self) -> str:
        """The sha256 of the weights file."""
        return weights_fingerprint(self.weights)

    @property
    def _name(self) -> str:
        return f"{self.target.__module__}.{getattr(self.target, '__qualname__', self.target)}"


def _dimensions(shape: tuple[int, ...]) -> tuple[int | None, int | None, int | None]:
    """Channels, height and width, None where a sample has no such dimension."""
    height, width = shape[-2:] if len(shape) == 3 else (None, shape[-1] if len(shape) == 2 else None)
    return shape[0] if shape else None, height, width


def _filled(value: Any, facts: Mapping[str, Any]) -> Any:
    """The value, with what the data set says in the place of its names."""
    if isinstance(value, Mapping):
        return {key: _filled(item, facts) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, facts) for item in value]
    if not isinstance(value, str) or value not in facts:
        return value
    if facts[value] is None:
        raise PipelineError(
            f"model.args: {value} of samples of shape {facts['data.shape']}, which have none. "
            "Remedy: data.shape, or a number"
        )
    return facts[value]


def _mistaken(arguments: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """What to say of text that looks like the name of a fact of the data, and is none."""
    wrong = [value for value in arguments.values() if isinstance(value, str) and value.startswith("data.")]
    return f". '{wrong[0]}' stands for nothing; {alternatives(wrong[0], facts)}" if wrong else ""


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "no arguments"


def _signature(target: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(target))
    except (TypeError, ValueError):  # in C
        return "what its documentation says"
