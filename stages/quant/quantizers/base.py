"""The protocol of a quantizer, and what all of them check and round alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from pipeline.errors import alternatives
from stages.quant.qparams import QParams

MIN_SCALE = 2.0**-60
"""Below this a scale is not used: products of two scales, and their reciprocals, stay normal float32."""


@runtime_checkable
class Quantizer(Protocol):
    """A scheme: maps a range of real values to a grid of integer levels."""

    @property
    def bits(self) -> int:
        """A tensor's values take at most ``2^bits`` levels."""

    @property
    def signed(self) -> bool | None:
        """True for levels in int8, False for uint8, None where the range decides."""

    def qparams(self, minimum: Tensor, maximum: Tensor, ch_axis: int | None = None) -> QParams:
        """The grid for values in ``[minimum, maximum]``, float tensors of shape ``()`` or ``(C,)``.

        The range is first widened to contain 0, so that real zero is a level.

        Raises:
            ValueError: NaN or infinity in the range, or a minimum above its maximum.
        """


@runtime_checkable
class ChoosesLevels(Protocol):
    """A quantizer that does not round weights to the nearest level of their grid."""

    elementwise: ClassVar[bool]
    """Whether each value is rounded on its own, as activations and training need it; False for a quantizer
    that looks at a whole weight."""

    def levels(self, weight: Tensor, qparams: QParams, name: str) -> Tensor:
        """The levels of a layer's weight, int8, the weight's shape; the same for the same arguments.

        Args:
            weight: float32 (O, …).
            qparams: its grid.
            name: of the layer.
        """


@runtime_checkable
class SharesLevels(ChoosesLevels, Protocol):
    """A quantizer by which a layer's weights share few levels, which training moves."""

    def centroids(self, weight: Tensor, qparams: QParams) -> Tensor:
        """Where the levels of a layer's weight start, float (k,), in steps of its grid; 0 among them."""


@runtime_checkable
class Uneven(Protocol):
    """A quantizer of weights that uses some of its grid's levels only."""

    def nearest(self, v: Tensor) -> Tensor:
        """The nearest of its levels to `v`, reals in steps, any shape: centred levels in v's type."""


@runtime_checkable
class Dithers(Protocol):
    """A quantizer that rounds by chance while a network is trained."""

    def dither(self, x: Tensor, scale: Tensor, name: str, draw: int) -> Tensor:
        """`x` with noise, whose nearest level is the quantizer's choice for `x`.

        Args:
            x: float32, any shape.
            scale: of its grid; broadcasts.
            name: of the layer or value.
            draw: counts training steps from 1; 0 is the draw that `ChoosesLevels.levels` makes.
        """


def untrainable(quantizer: Quantizer) -> bool:
    """Whether it chooses levels for a whole weight in a way that has no gradient."""
    whole = isinstance(quantizer, ChoosesLevels) and not quantizer.elementwise
    return whole and not isinstance(quantizer, SharesLevels)


LayerRule = Mapping[str, Quantizer | int] | Literal["float"]
"""``{weight: …, activation: …}``, either may be left out: a quantizer, or bits for the usual one; ``float``
keeps a layer unquantized."""


@dataclass(frozen=True, kw_only=True)
class WeightsAndActivations:
    """The schemes of a network: what the configuration group ``quantizer`` chooses.

    Args:
        weight: for weights; signed, as integer kernels hold weights in int8.
        activation: for the input and every computed value; None keeps them float, which has no integer
            kernels and is simulated only.
        first_last_bits: bits of the first and the last layer: of their weights, of what they read, and of
            what the network gives (where activations are not float); None: those of all.
        residual_bits: bits of the values that additions read and form, of which layers then read copies with
            the activation's bits (`stages.graph.residual`); None: the activation's, and no copies. Up to 16:
            transformers need more than 8.
        layers: exceptions by layer name or pattern (``*``, ``?``, ``[ab]``); of those that match, later ones
            win. A layer's activation is the value that it computes. They prevail over both widths above.
    """

    weight: Quantizer
    activation: Quantizer | None
    first_last_bits: int | None = None
    residual_bits: int | None = None
    layers: Mapping[str, LayerRule] | None = None

    def __post_init__(self) -> None:
        _check_weight("weight", self.weight)
        if self.activation is not None:
            _check_activation("activation", self.activation)
        for name in ("first_last_bits", "residual_bits"):
            bits = getattr(self, name)
            most = 16 if name == "residual_bits" else 8
            if bits is not None and not 2 <= bits <= most:
                raise ValueError(f"{name}={bits}: must be 2..{most}, or null")
        if self.residual_bits is not None and self.activation is None:
            raise ValueError(
                f"residual_bits={self.residual_bits}: must be null where activation=null keeps values float"
            )
        for pattern, rule in (self.layers or {}).items():
            if rule == "float":
                continue
            for role, choice in rule.items():
                name = f"layers.{pattern}.{role}"
                if role not in _ROLES:
                    raise ValueError(f"{name}: {alternatives(role, _ROLES)}")
                if role == "activation" and self.activation is None:
                    raise ValueError(
                        f"{name}: must be left out where activation=null keeps all of them float"
                    )
                quantizer = self.usual(role, choice) if isinstance(choice, int) else choice
                _ROLES[role](name, quantizer)

    def of_weights(self) -> Iterator[tuple[str, Quantizer]]:
        """The quantizers of weights, the usual one and those of rules, each with its path: ``weight``."""
        yield "weight", self.weight
        for pattern, rule in (self.layers or {}).items():
            if rule != "float" and not isinstance(own := rule.get("weight"), int | None):
                yield f"layers.{pattern}.weight", own

    def of_activations(self) -> Iterator[tuple[str, Quantizer]]:
        """The quantizers of activations, likewise; none where they stay float."""
        if self.activation is not None:
            yield "activation", self.activation
        for pattern, rule in (self.layers or {}).items():
            if rule != "float" and not isinstance(own := rule.get("activation"), int | None):
                yield f"layers.{pattern}.activation", own

    def usual(self, role: str, bits: int) -> Quantizer:
        """The quantizer of all weights, or of all activations, at another width.

        Raises:
            ValueError: activations stay float.
        """
        quantizer = self.weight if role == "weight" else self.activation
        if quantizer is None:
            raise ValueError("activation=None: activations stay float, and have no bits")
        return with_bits(quantizer, bits)


def _check_width(name: str, quantizer: Quantizer) -> None:
    if quantizer.bits > 8:
        raise ValueError(
            f"{name}.bits={quantizer.bits}: must be 2..8. Integer kernels multiply levels of 8 bits; "
            "residual_bits alone may be up to 16"
        )


def _check_weight(name: str, quantizer: Quantizer) -> None:
    _check_width(name, quantizer)
    if quantizer.signed is not True:
        raise ValueError(
            f"{name}.signed={quantizer.signed}: must be true, integer kernels hold weights in int8; "
            "an unsigned grid is for activations"
        )


def _check_activation(name: str, quantizer: Quantizer) -> None:
    _check_width(name, quantizer)
    if isinstance(quantizer, ChoosesLevels) and not quantizer.elementwise:
        raise ValueError(
            f"{name}: {type(quantizer).__name__} chooses levels for a whole weight, which kernels cannot do "
            "for values they compute. Remedy: symmetric or affine"
        )
    if isinstance(quantizer, Uneven):
        raise ValueError(
            f"{name}: {type(quantizer).__name__} leaves out levels, and kernels round what they compute to "
            "all of a grid. Remedy: symmetric or affine"
        )


_ROLES: Mapping[str, Callable[[str, Quantizer], None]] = {
    "weight": _check_weight,
    "activation": _check_activation,
}


def check_bits(bits: int, most: int = 8) -> None:
    """Refuse a width that has no kernel or no grid."""
    if not 2 <= bits <= most:
        raise ValueError(
            f"bits={bits}: must be 2..{most}. Integer kernels hold levels in {most} bits, and 1 bit leaves "
            "no level beside zero"
        )


def with_bits(quantizer: Quantizer, bits: int) -> Quantizer:
    """The same scheme at another width. Raises ValueError where it has no such width."""
    component: Any = quantizer  # a dataclass, as all components are
    changed: Quantizer = replace(component, bits=bits)
    return changed


def widened(minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Tensor]:
    """The range, checked and widened to contain 0, in float64: its width cannot overflow there."""
    if not bool(torch.isfinite(minimum).all() & torch.isfinite(maximum).all()):
        raise ValueError(
            f"the range [{_extreme(minimum, 'min')}, {_extreme(maximum, 'max')}] is not finite. Remedy: find "
            "what makes NaN or infinity: weights that diverged in training, or samples not normalized"
        )
    if bool((minimum > maximum).any()):
        raise ValueError(
            f"the range is empty: minimum {_extreme(minimum, 'max')} lies above maximum "
            f"{_extreme(maximum, 'min')}. Remedy: a calibrator returns (min, max), in this order"
        )
    return minimum.double().clamp(max=0.0), maximum.double().clamp(min=0.0)


def usable(scale: Tensor) -> Tensor:
    """Scales as float32; 1 where the range is so narrow (zero, mostly) that all values round to zero."""
    return torch.where(scale < MIN_SCALE, 1.0, scale).to(torch.float32)


def next_power_of_two(x: Tensor) -> Tensor:
    """The least ``2^k ≥ x``, exactly; x float, positive and normal (0 stays 0), any shape."""
    fraction, exponent = torch.frexp(x)
    return torch.where(fraction == 0.5, x, torch.ldexp(torch.sign(x).double(), exponent).to(x.dtype))


def _extreme(x: Tensor, which: str) -> float:
    return float(x.min() if which == "min" else x.max())
