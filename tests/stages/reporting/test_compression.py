"""The paper's table in the report."""

from stages.artifacts import IntegerProgram, NarrowedLayer
from stages.integer.coded import encode_program
from stages.reporting.compression import compression_table, narrowed_table
from tests.stages.integer.test_coded import sparse_program


def test_all_is_the_whole_file():
    program = sparse_program()
    coded = encode_program(program, "range")
    layer, whole = compression_table(IntegerProgram(program=program, coded=coded))
    assert (layer.name, layer.size, layer.bits) == ("y", 1500, 3)  # four levels, and the zero that pads
    assert whole.file_bytes == len(coded) and whole.ratio == 6000 / len(coded)
    assert layer.file_bytes < layer.huffman_bytes
    assert layer.huffman_bytes == layer.kept * 1500 * (layer.weight_bits + layer.index_bits) / 8


def test_a_pruned_network_that_is_saved_plainly_has_the_papers_columns():
    (layer, _) = compression_table(IntegerProgram(program=sparse_program()))
    assert layer.file_bytes is None and layer.ratio == 6000 / layer.huffman_bytes


def test_what_is_neither_pruned_nor_coded_has_no_table():
    program = sparse_program()
    program.ops[0].tensors["weight"][:] = 3
    assert compression_table(IntegerProgram(program=program)) == ()
    assert compression_table(None) == ()


def test_layers_that_lost_channels_to_read_or_write_are_listed_and_all():
    def layer(name, channels, operations):
        return NarrowedLayer(name=name, channels=channels, operations=operations)

    layers = (layer("a", (16, 8), (160, 80)), layer("b", (4, 4), (64, 32)), layer("c", (4, 4), (16, 16)))
    assert narrowed_table(layers) == (*layers[:2], layer("", (24, 16), (240, 128)))
    assert narrowed_table(()) == ()
