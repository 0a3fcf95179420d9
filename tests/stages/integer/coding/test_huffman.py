import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.integer.coding.gaps import from_gaps, to_gaps
from stages.integer.coding.huffman import canonical_codes, code_lengths, decode_symbols, encode_symbols
from stages.integer.coding.huffman_weights import decode, encode


@settings(max_examples=80, deadline=None)
@given(symbols=st.lists(st.integers(0, 40), max_size=300))
def test_symbols_come_back(symbols):
    symbols = np.array(symbols, np.int64)
    lengths = code_lengths(np.bincount(symbols, minlength=41))
    bits = np.concatenate([encode_symbols(symbols, lengths), np.ones(5, np.uint8)])
    found, taken = decode_symbols(bits, lengths, len(symbols))
    assert (found == symbols).all() and taken == len(bits) - 5


def test_codes_are_canonical_prefix_free_and_optimal():
    lengths = code_lengths(np.array([1, 0, 7, 2, 3]))
    assert lengths.tolist() == [3, 0, 1, 3, 2]
    codes = [format(c, f"0{n}b") for c, n in zip(canonical_codes(lengths), lengths, strict=True) if n]
    assert sorted(codes) == ["0", "10", "110", "111"]
    assert not any(b.startswith(a) for a, b in itertools.permutations(codes, 2))


def test_no_code_is_longer_than_15_bits():
    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(sum(fibonacci[-2:]))
    lengths = code_lengths(np.array(fibonacci))
    assert lengths.max() == 15
    canonical_codes(lengths)


@pytest.mark.parametrize("lengths", [[1, 1, 1], [16], [-1]])
def test_lengths_of_no_code_are_refused(lengths):
    with pytest.raises(ValueError, match="code lengths"):
        canonical_codes(np.array(lengths))


def test_streams_that_end_too_soon_or_hold_no_code_are_refused():
    lengths = np.array([2, 2, 2])
    with pytest.raises(ValueError, match="cut off"):
        decode_symbols(np.zeros(3, np.uint8), lengths, 2)
    with pytest.raises(ValueError, match="no code"):
        decode_symbols(np.ones(4, np.uint8), lengths, 2)
    with pytest.raises(ValueError, match="cut off"):
        decode_symbols(np.zeros(3, np.uint8), lengths, 10**9)


@settings(max_examples=80, deadline=None)
@given(flags=st.lists(st.booleans(), max_size=400), bits=st.integers(1, 8), zeros=st.integers(0, 600))
def test_places_come_back_from_gaps(flags, bits, zeros):
    places = np.flatnonzero([False] * zeros + flags)
    gaps, leads = to_gaps(places, bits)
    assert gaps.max(initial=0) < 1 << bits
    found = from_gaps(gaps, zeros + len(flags))
    assert (found[leads >= 0] == places).all() and (leads[leads >= 0] == np.arange(len(places))).all()


def test_a_gap_beyond_its_bits_is_padded_with_a_zero():
    """Figure 2 of the paper, of 3 bits: 15 zeros before the third weight are 7, a padding zero, and 7."""
    gaps, leads = to_gaps(np.array([1, 4, 20]), 3)
    assert gaps.tolist() == [1, 2, 7, 7] and leads.tolist() == [0, 1, -1, 2]
    with pytest.raises(ValueError, match="gaps lead to element 20 of 20"):
        from_gaps(gaps, 20)


@pytest.mark.parametrize("last", [0, 3])
def test_zeros_at_the_end_are_paid_for(last):
    """So that a file cannot say that a weight is larger than its codes are."""
    weight = np.zeros((40, 50), np.int8)
    weight[0, 0] = last
    side, stream, (sparse,) = encode([(weight, 0)])
    assert (sparse.codes + 1) << sparse.bits >= weight.size
    assert (decode(side, stream, 1)[0] == weight).all()
