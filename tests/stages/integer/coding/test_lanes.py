"""The coder gives back what it was given, near the least that it can take, and sees damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.integer.coding.lanes import ONE, DecisionDecoder, DecisionEncoder


def steps(seed, count, lanes):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n = int(rng.integers(0, lanes + 1))
        p = rng.integers(1, ONE, n) if rng.random() < 0.5 else np.full(n, rng.choice([1, 7, ONE - 1]))
        yield p.astype(np.int64), rng.random(n) < p / ONE


def coded(seed, count, lanes):
    encoder = DecisionEncoder()
    for p, decisions in steps(seed, count, lanes):
        encoder.code(p, decisions)
    payload = np.random.default_rng(seed).bytes(2 * encoder.lanes)
    return encoder, payload, encoder.finish(payload)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 60), lanes=st.integers(0, 40))
def test_decisions_and_payload_come_back(seed, count, lanes):
    encoder, payload, data = coded(seed, count, lanes)
    decoder = DecisionDecoder(data, encoder.lanes)
    for p, decisions in steps(seed, count, lanes):
        assert (decoder.code(p) == decisions).all()
    assert decoder.finish() == payload


def test_a_stream_takes_what_its_decisions_do_and_half_a_byte_a_lane():
    encoder, payload, data = coded(0, 2000, 64)
    least = encoder.bits(0, encoder.steps) / 8
    assert least < len(data) - len(payload) < 1.001 * least + 0.75 * 64


def test_a_stream_that_is_cut_off_or_ends_elsewhere_is_refused():
    encoder, _, data = coded(1, 200, 8)
    for changed in (data[:-2], data[:-1], data[:3], data + b"\0\0", b"", data[:20] + b"\xff\xff" + data[22:]):
        with pytest.raises(ValueError, match=r"cut off|damaged"):
            decoder = DecisionDecoder(changed, encoder.lanes)
            for p, _ in steps(1, 200, 8):
                decoder.code(p)
            decoder.finish()
    with pytest.raises(ValueError, match="must be two for each of 8 lanes"):
        encoder.finish(b"")
