"""Programs of all kinds come back from their coded file to the bit; damaged files are refused in words."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.integer.coded import coded_layers, decode_program, encode_program
from stages.integer.coding.container import CodedParts, deflate, inflate, pack, unpack
from stages.integer.coding.derived import same
from stages.integer.files import read_program, write_program
from stages.integer.program import Op, Program, Value
from tests.stages.integer.strategies import MODES, programs


def assert_same(found, program):
    assert replace(found, ops=()) == replace(program, ops=())
    for actual, expected in zip(found.ops, program.ops, strict=True):
        assert replace(actual, tensors={}) == replace(expected, tensors={})
        assert list(actual.tensors) == list(expected.tensors)
        assert all(same(actual.tensors[name], tensor) for name, tensor in expected.tensors.items())


@settings(max_examples=60, deadline=None)
@given(program=programs(modes=MODES), coder=st.sampled_from(["range", "huffman"]))
def test_a_program_comes_back(program, coder):
    assert_same(decode_program(encode_program(program, coder)), program)


def sparse_program(units=30):
    """A linear layer whose weights are mostly 0."""
    rng = np.random.default_rng(0)
    weight = (rng.choice([-90, -20, 20, 90], (units, 50)) * (rng.random((units, 50)) < 0.1)).astype(np.int8)
    values = {
        name: Value(name=name, shape=(size,), scale=0.1, zero_point=0, quant_min=0, quant_max=255)
        for name, size in (("x", 50), ("y", units))
    }
    op = Op(
        op="linear",
        inputs=("x",),
        output="y",
        attrs={"act_min": 0, "act_max": 255},
        tensors={
            "weight": weight,
            "weight_scale": np.full(1, 0.01, np.float32),
            "weight_zero_point": np.zeros(1, np.int32),
            "bias": rng.integers(-5000, 5000, units).astype(np.int32),
            "multiplier": np.full(1, 2**30, np.int32),
            "shift": np.zeros(1, np.int32),
            "ratio": np.full(1, 0.5, np.float32),
        },
    )
    return Program(values=values, ops=(op,), input="x", output="y")


@pytest.mark.parametrize("coder", ["range", "huffman"])
def test_a_folder_holds_one_form(tmp_path, coder):
    program = sparse_program()
    write_program(program, tmp_path)
    write_program(program, tmp_path, encode_program(program, coder))
    assert [path.name for path in tmp_path.iterdir()] == ["program.coded"]
    found, coded = read_program(tmp_path)
    assert_same(found, program)
    assert coded == encode_program(program, coder)
    write_program(program, tmp_path)
    assert read_program(tmp_path)[1] is None and not (tmp_path / "program.coded").exists()


def test_what_layers_take_is_what_deep_compression_counts():
    program = sparse_program()
    weight = program.ops[0].tensors["weight"]
    (layer,) = coded_layers(program)
    assert (layer.name, layer.size, layer.kept, layer.levels) == ("y", 1500, int((weight != 0).sum()), 4)
    assert 1.9 < layer.weight_bits < 2.5 and 3.0 < layer.index_bits < 6.0


@pytest.mark.parametrize("coder", ["range", "huffman"])
def test_no_flip_of_a_bit_and_no_shorter_file_passes(coder):
    data = encode_program(sparse_program(4), coder)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"damaged|cut off|no coded program"):
            decode_program(bytes(changed))
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"cut off|no coded program"):
            decode_program(data[:length])


def mended(data, **changes):
    """The file with other parts and a right checksum, as who means harm would write it."""
    return pack(replace(unpack(data), **changes))


def with_fields(data, change):
    fields = json.loads(unpack(data).fields)
    change(fields)
    return mended(data, fields=json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.__setitem__(0, 99), "format 99, but this version reads format"),
        (lambda f: f[6][0].__setitem__(1, [-1]), "number -1: must be 0 or more"),
        (lambda f: f[6][0].__setitem__(2, 7), "index out of range"),
        (lambda f: f[6][0].__setitem__(0, "exec"), "unknown operator 'exec'"),
        (lambda f: f[6][0][4][3].__setitem__(2, [2**40]), "must have at most"),
        (lambda f: f[6][0][4][3].__setitem__(2, [2**27]), "fewer numbers of int32 than its arrays have"),
        (lambda f: f[6][0][4][3].__setitem__(2, [2**27]) or f[6][0][4][3].__setitem__(3, True), "equal elem"),
        (lambda f: f[6].extend([f[6][0]] * 2**16), "operators: must be at most"),
        (lambda f: f.__setitem__(6, {}), "damaged"),
        (lambda f: f[5].append(f[5][0]), "zip"),
    ],
)
def test_fields_that_lie_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        decode_program(with_fields(encode_program(sparse_program(), "range"), change))


@pytest.mark.parametrize("coder", ["range", "huffman"])
def test_no_other_stream_gives_another_weight(coder):
    """Each weight has a checksum of its own; the other arrays lie in the lanes, and have the file's alone."""
    program = sparse_program()
    data = encode_program(program, coder)
    parts = unpack(data)
    for place in range(0, len(parts.stream), 29):
        stream = bytearray(parts.stream)
        stream[place] ^= 0x55
        try:
            found = decode_program(mended(data, stream=bytes(stream)))
        except ValueError:
            continue
        assert coder == "range" and same(found.ops[0].tensors["weight"], program.ops[0].tensors["weight"])


@pytest.mark.parametrize("coder", ["range", "huffman"])
def test_counts_are_looked_at_before_memory_is_taken(coder):
    data = encode_program(sparse_program(), coder)
    side = unpack(data).side
    place = side.index((30).to_bytes(4, "little"))
    huge = side[:place] + (2**22).to_bytes(4, "little") + side[place + 4 :]
    with pytest.raises(ValueError, match=r"damaged|cut off"):
        decode_program(mended(data, side=huge))


def test_a_weight_of_another_dtype_is_refused():
    data = encode_program(sparse_program(), "huffman")
    side = unpack(data).side  # its second byte says whether levels are unsigned
    with pytest.raises(ValueError, match="decodes to another than was coded"):
        decode_program(mended(data, side=side[:1] + b"\1" + side[2:]))


def test_a_part_that_inflates_to_more_than_it_says_is_refused():
    bomb = deflate(bytes(10**6))
    assert inflate(bomb) == bytes(10**6)
    for length in (10, 10**6 - 1, 2**31):
        with pytest.raises(ValueError, match="damaged"):
            inflate(length.to_bytes(4, "little") + bomb[4:])


def test_the_checksum_is_of_all_that_follows():
    data = encode_program(sparse_program(), "range")
    assert zlib.crc32(data[8:]) == int.from_bytes(data[4:8], "little")
    assert isinstance(unpack(data), CodedParts)


def test_a_coder_that_is_none_is_refused():
    with pytest.raises(ValueError, match="coder=zip: must be huffman or range"):
        encode_program(sparse_program(), "zip")
