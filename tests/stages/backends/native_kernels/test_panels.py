from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.native import Native
from stages.backends.native_kernels import panels
from stages.backends.native_kernels.library import cpu_features, find_compiler
from stages.backends.native_kernels.panels import LEVELS, MOST, level_offset, pairing, panel_fields
from stages.backends.native_kernels.planner import Pins
from stages.backends.reference import Reference
from stages.integer.program import Program
from tests.stages.backends.native_kernels.wide_layers import LEVELS as KINDS
from tests.stages.backends.native_kernels.wide_layers import WEIGHTS, drawn_levels, drawn_weights, wide_layers

COMPILER = find_compiler()
MISSING = COMPILER is None or "avx2" not in cpu_features(COMPILER)


@pytest.mark.skipif(MISSING, reason="there is no C++ compiler, or this CPU lacks AVX2")
@settings(max_examples=300, deadline=None)
@given(
    program=wide_layers(),
    kind=st.sampled_from(KINDS),
    threads=st.integers(1, 2),
    seed=st.integers(0, 999),
    least=st.sampled_from([1, 24, 2**15]),
)
def test_panels_and_levels_of_16_bits_are_the_references(
    program: Program, kind: str, threads: int, seed: int, least: int
) -> None:
    """Wherever the planner sees the limit between them."""
    q = drawn_levels(kind, program, 1, np.random.default_rng(seed))
    expected = Reference(threads=1).compile(program).run(q)
    with patch.multiple(panels, LEAST_VECTORS=2, LEAST_DWORDS=least, LEAST_AROUND=least):
        executable = Native(threads=threads, isa="avx2", fallback=False).compile(program)
    assert (executable.run(q) == expected).all()


@pytest.mark.parametrize("zero_point", range(256))
def test_levels_are_their_seven_bits_and_what_is_rare(zero_point: int) -> None:
    """x − s = y + h, h with the sign that the level's top bit tells, and 0 at the zero point."""
    s = level_offset(zero_point)
    x = np.arange(256)
    y = (x - s) % LEVELS
    rare = ((x - s) % 256) & 128
    h = np.where(rare == 0, 0, np.where(x >= 128, 128, -128))
    assert (x - s == y + h).all()
    assert rare[zero_point] == 0
    assert (s >= 0) and (s <= 128)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("dwords", [1, 2, 3, 24, 145])
def test_no_pair_of_dwords_leaves_int16(kind: str, dwords: int) -> None:
    """At the ends of y, in every lane; an order names every dword once."""
    weight = drawn_weights(kind, (3, dwords, 16, 4), np.random.default_rng(dwords))
    orders, counts = pairing(weight)
    for vector, order, count in zip(weight.astype(int), orders, counts, strict=True):
        assert sorted(order.tolist()) == list(range(dwords))
        first, second = vector[order[: 2 * count : 2]], vector[order[1 : 2 * count : 2]]
        four = np.concatenate([first.reshape(-1, 16, 2, 2), second.reshape(-1, 16, 2, 2)], axis=-1)
        for sign in (1, -1):
            assert (127 * np.maximum(sign * four, 0).sum(axis=-1) <= 32767).all()
    lone = {"uniform": None, "normal": None, "most": 0, "least": 0, "two ends": None}.get(kind, dwords // 2)
    if lone is not None:
        assert (counts == lone).all()


def test_most_is_the_last_sum_that_int16_holds() -> None:
    assert 127 * MOST <= 32767 < 127 * (MOST + 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(49, 100), st.integers(57, 80), st.integers(0, 255), st.integers(0, 99))
def test_weights_stand_where_orders_say(outputs: int, inputs: int, zero_point: int, seed: int) -> None:
    """The arrays of two units follow on each other."""
    units = np.random.default_rng(seed).integers(-128, 128, (2, outputs, inputs, 3, 3))
    pins = Pins(panels=True)
    vectors, dwords = -(-outputs // 16), 9 * -(-inputs // 4)
    constants = np.arange(2 * 16 * vectors, dtype=np.int32)
    fields = dict(panel_fields(units, constants, zero_point, pins))
    all_packed, all_bias, all_orders, all_pairs = pins.arrays
    assert len(all_pairs) == 2 * vectors
    for unit, weight in enumerate(units):
        packed, bias, order = (np.split(a.reshape(-1), 2)[unit] for a in (all_packed, all_bias, all_orders))
        stand(weight, packed, order, vectors, dwords)
        total = constants[16 * vectors * unit :][:outputs] + fields["level_offset"] * weight.sum((1, 2, 3))
        assert (bias[:outputs] == total).all()


def stand(weight: np.ndarray, packed: np.ndarray, order: np.ndarray, vectors: int, dwords: int) -> None:
    outputs = len(weight)
    packed = packed.reshape(vectors, dwords, 16, 4)
    for vector in range(-(-outputs // 16)):
        for place in range(dwords):
            dword = order.reshape(vectors, 2, dwords)[vector, 0, place] // 2
            assert order.reshape(vectors, 2, dwords)[vector, 1, dword] == place
            row, column, first = (
                dword // (dwords // 3),
                dword // (dwords // 9) % 3,
                4 * (dword % (dwords // 9)),
            )
            expected = np.zeros((16, 4), int)
            part = weight[16 * vector : 16 * vector + 16, first : first + 4, row, column]
            expected[: part.shape[0], : part.shape[1]] = part
            assert (packed[vector, place] == expected).all()


def test_what_is_small_goes_without() -> None:
    """Too few channels or products to share a panel among."""
    pins = Pins(panels=True)
    shapes = (((1, 48, 400, 1, 1), 0), ((2, 64, 252, 1, 1), 0), ((1, 64, 508, 1, 1), 128))
    for shape, zero_point in shapes:
        assert panel_fields(np.ones(shape, np.int64), np.zeros(128, np.int32), zero_point, pins) == ()
