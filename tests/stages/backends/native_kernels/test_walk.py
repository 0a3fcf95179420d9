"""Every plan stays within its memory, says a walk that shares nothing with the planner."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.native_kernels.planner import Plan
from stages.backends.native_kernels.segments import parts
from stages.graph.lower import lower
from stages.integer.program import Program
from stages.models.lenet import LeNet5
from stages.models.mobilenet import MobileNetV2
from stages.models.mobilenet_digits import MobileNetDigits
from stages.models.resnet_cifar import ResNetCifar
from tests.quantizing import fused, quantized
from tests.stages.backends.native_kernels.cases import drawn
from tests.stages.backends.native_kernels.kinds import KINDS
from tests.stages.backends.native_kernels.walk import NAMES, OutsideError, walk, walk_parts
from tests.stages.backends.native_kernels.wide_layers import wide_layers
from tests.stages.backends.test_native import layers
from tests.stages.integer.strategies import MODES, programs
from tests.stages.networks import Attention, Gated


@settings(max_examples=200, deadline=None)
@given(program=programs(modes=MODES, ranks=(1, 2, 3, 4)), keep=st.booleans(), panels=st.booleans())
def test_plans_of_random_programs_stay_within_their_memory(
    program: Program, keep: bool, panels: bool
) -> None:
    walk_parts(parts(program, keep=keep, panels=panels), program)


@settings(max_examples=100, deadline=None)
@given(program=st.one_of(layers(), wide_layers()))
def test_plans_of_layers_of_real_sizes_stay_within_their_memory(program: Program) -> None:
    walk_parts(parts(program, keep=False, panels=True), program)


NETWORKS = {
    "lenet5": (LeNet5(), (1, 28, 28)),
    "mobilenet_digits": (MobileNetDigits(), (1, 8, 8)),
    "resnet20": (ResNetCifar(depth=20), (3, 32, 32)),
    "mobilenet_v2": (MobileNetV2(), (3, 32, 32)),
    "gated": (Gated(), (3, 16, 16)),
    "attention": (Attention(), (3, 8, 8)),
}


@cache
def planned(name: str) -> Program:
    model, shape = NETWORKS[name]
    torch.manual_seed(0)
    graph = fused(model.build(shape, 10).eval(), shape)
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
    return lower(quantized(graph, x), "float")


@pytest.fixture(params=NETWORKS)
def network(request) -> Program:
    return planned(request.param)


@pytest.fixture(params=["mobilenet_digits", "gated", "attention"])
def small(request) -> Program:
    return planned(request.param)


@pytest.mark.parametrize("panels", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_plans_of_networks_stay_within_their_memory(network: Program, keep: bool, panels: bool) -> None:
    found = parts(network, keep=keep, panels=panels)
    walk_parts(found, network)
    kinds = {NAMES[step.kind] for part in found if isinstance(part, Plan) for step in part.steps}
    assert len(kinds & {"CONV", "MATMUL", "DEPTHWISE"}) > 0


MANY = 10**6


def changes(plan: Plan) -> list[tuple[str, object]]:
    """What to change in a plan, none of which the engine would survive: a name, and a function that does."""
    found: list[tuple[str, object]] = []

    def add(where: str, holder: object, field: str, value: object) -> None:
        def change() -> object:
            before = getattr(holder, field)
            setattr(holder, field, value)
            return lambda: setattr(holder, field, before)

        found.append((f"{where}.{field}={value}", change))

    for number, image in enumerate(plan.images):
        for field, value in (("offset", -1), ("offset", plan.arena_bytes), ("width", MANY), ("height", MANY)):
            add(f"image {number}", image, field, value)
        add(f"image {number}", image, "stride", image.channels - 1)
        add(f"image {number}", image, "border_h", -1)
    for number, step in enumerate(plan.steps):
        name = NAMES[step.kind]
        where = f"step {number} {name}"
        add(where, step, "source" if step.kind else "target", len(plan.images))
        if step.kind in (0, 1):
            add(where, step, "external", 99)
        if name in ("CONV", "DEPTHWISE", "LANES"):
            target = plan.images[step.target]
            many = {"stride_h": target.height, "stride_w": target.width, "dilation_w": step.kernel_w}
            for field in ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "dilation_w"):
                if many.get(field, 2) > 1:  # else it is multiplied by nothing
                    add(where, step, field, 10**5)
            for field in ("channels", "target_channels", "passes" if name == "DEPTHWISE" else "sum_channels"):
                add(where, step, field, 10**5)
        if name == "CONV":
            add(where, step, "source_channel", 10**5)
            add(where, step, "target_channel", 10**5)
            add(where, step, "count", 10**5)
        if name in ("CONV", "GROUPS"):
            add(where, step, "nibbles", 0 if step.nibbles else 2)
        if name == "COPY" and step.repeat > 1:
            add(where, step, "channels", 10**5)
            add(where, step, "repeat", 10**5)
        elif name == "COPY" and not step.flatten:
            add(where, step, "source_channel", 10**5)
            add(where, step, "channels", 10**5)
            add(where, step, "divide_h", 0)
        if name == "MOVE":
            add(where, step, "passes", 9)
            add(where, step, "source_channel", -(10**6))
            add(where, step, "target_row", 10**6)
            add(where, step, "target_channel", -(10**6))
        if name == "MATMUL":
            add(where, step, "sum_channels", 10**5)
        for field, value in MORE.get(name, ()):
            add(where, step, field, value)
        for field in ("map", "residual_map"):
            if getattr(step, field):
                add(f"{where} {field}", Numbers(getattr(step, field)), "first", 10**7)
    return found


MORE = {
    "EMBED": (("count", 0), ("count", 10**7)),
    "LANES": (("sum_channels", 0),),
    "GROUPS": (("count", 10**4), ("sum_channels", 10**5), ("kernel_h", 10**4)),
    "GROUP_NORM": (("count", 0), ("shift", 64)),
    "LAYER_NORM": (("count", 40), ("shift", 64)),
    "REDUCE": (("count", 10**7),),
    "RMS_NORM": (("least", 0), ("shift", 64)),
    "COMBINE": (("operation", 4),),
    "TFLM_COMBINE": (("operation", 2),),
}


class Numbers:
    """The first of those that a pointer leads to."""

    def __init__(self, pointer: object) -> None:
        self.pointer = pointer

    @property
    def first(self) -> int:
        return self.pointer[0]

    @first.setter
    def first(self, value: int) -> None:
        self.pointer[0] = value


def test_a_changed_plan_is_noticed(small: Program) -> None:
    found = [part for part in parts(small, keep=False) if isinstance(part, Plan)]
    sizes = [
        [int(np.prod(small.values[name].shape)) for name in (*plan.inputs, *plan.outputs)] for plan in found
    ]
    count = 0
    for plan, bytes_ in zip(found, sizes, strict=True):
        for name, change in changes(plan):
            undo = change()
            with pytest.raises(OutsideError):
                walk(plan, bytes_)
                pytest.fail(f"{name} is not noticed")
            undo()
            count += 1
        walk(plan, bytes_)
        for short in range(len(bytes_)):
            with pytest.raises(OutsideError, match="bytes"):
                walk(plan, [size - (i == short) for i, size in enumerate(bytes_)])
    assert count > 20


@pytest.mark.parametrize("kind", [*KINDS, "any"])
def test_a_changed_plan_of_any_kind_is_noticed(kind: str) -> None:
    strategy = KINDS[kind] if kind in KINDS else programs(modes=MODES, ranks=(2, 3, 4))
    seen = set()
    for program, _, _ in drawn(strategy, 12):
        (plan,) = parts(program, keep=False)
        assert isinstance(plan, Plan)
        walk_parts([plan], program)
        for name, change in changes(plan):
            undo = change()
            with pytest.raises(OutsideError):
                walk_parts([plan], program)
                pytest.fail(f"{name} is not noticed")
            undo()
        walk_parts([plan], program)
        seen |= {NAMES[step.kind] for step in plan.steps}
    assert len(seen) > 2


def test_arrays_that_are_gone_are_noticed(small: Program) -> None:
    for plan in (part for part in parts(small, keep=False) if isinstance(part, Plan)):
        sizes = [int(np.prod(small.values[name].shape)) for name in (*plan.inputs, *plan.outputs)]
        bare = Plan(**{**vars(plan), "pinned": ()})
        with pytest.raises(OutsideError, match="in none of the plan's arrays"):
            walk(bare, sizes)
        with pytest.raises(OutsideError, match=r"ends at \d+ of"):
            walk(Plan(**{**vars(plan), "arena_bytes": plan.arena_bytes // 2}), sizes)
