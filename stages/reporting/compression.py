"""What each layer keeps: channels, and the table of Deep Compression (Han et al. 2016, tables 2 and 3)."""

from __future__ import annotations

from dataclasses import dataclass

from stages.artifacts import IntegerProgram, NarrowedLayer
from stages.integer.coded import CodedLayer, coded_layers

DENSE = 0.9
"""A layer that keeps more is not pruned."""


@dataclass(frozen=True, kw_only=True)
class CompressionRow:
    """One layer, or all of them.

    Args:
        name: of the layer; empty for all.
        size: weights.
        kept: share of them that is not 0.
        bits: of a weight, of as many levels; None for all.
        gap_bits: of an index; None for all, 0 where all weights are stored.
        weight_bits, index_bits: by Huffman codes, of a kept weight.
        huffman_bytes: of both.
        file_bytes: in the run's file; None where that is not coded.
        ratio: 4 bytes a weight, over the file's, or Huffman's where there is none.
    """

    name: str
    size: int
    kept: float
    bits: int | None
    gap_bits: int | None
    weight_bits: float
    index_bits: float
    huffman_bytes: float
    file_bytes: float | None
    ratio: float


def narrowed_table(layers: tuple[NarrowedLayer, ...]) -> tuple[NarrowedLayer, ...]:
    """The layers that lost channels that they write or read, and one row for all; empty where none were."""
    if not layers:
        return ()
    channels, operations = (
        tuple(sum(getattr(layer, what)[i] for layer in layers) for i in range(2))
        for what in ("channels", "operations")
    )
    lost = [own for own in layers if own.operations[1] < own.operations[0]]
    return (*lost, NarrowedLayer(name="", channels=channels, operations=operations))


def compression_table(program: IntegerProgram | None) -> tuple[CompressionRow, ...]:
    """A row a layer, and one for all; empty where nothing is pruned and the program is saved plainly."""
    if program is None:
        return ()
    sparse = any(_share(layer) < DENSE for layer in coded_layers(program.program))
    if program.coded is None and not sparse:
        return ()
    layers = coded_layers(program.program, program.coded)
    if not layers:
        return ()
    return (*map(_row, layers), _all(layers, program))


def _share(layer: CodedLayer) -> float:
    return layer.kept / layer.size


def _row(layer: CodedLayer) -> CompressionRow:
    huffman = layer.kept * (layer.weight_bits + layer.index_bits) / 8
    in_file = None if layer.file_bits is None else layer.file_bits / 8
    return CompressionRow(
        name=layer.name,
        size=layer.size,
        kept=_share(layer),
        bits=max(layer.levels - (layer.gap_bits == 0), 1).bit_length(),
        gap_bits=layer.gap_bits,
        weight_bits=layer.weight_bits,
        index_bits=layer.index_bits,
        huffman_bytes=huffman,
        file_bytes=in_file,
        ratio=4 * layer.size / max(huffman if in_file is None else in_file, 1.0),
    )


def _all(layers: tuple[CodedLayer, ...], program: IntegerProgram) -> CompressionRow:
    size, kept = sum(layer.size for layer in layers), sum(layer.kept for layer in layers)
    weight = sum(layer.kept * layer.weight_bits for layer in layers)
    index = sum(layer.kept * layer.index_bits for layer in layers)
    in_file = None if program.coded is None else float(len(program.coded))
    return CompressionRow(
        name="",
        size=size,
        kept=kept / size,
        bits=None,
        gap_bits=None,
        weight_bits=weight / max(kept, 1),
        index_bits=index / max(kept, 1),
        huffman_bytes=(weight + index) / 8,
        file_bytes=in_file,
        ratio=4 * size / max((weight + index) / 8 if in_file is None else in_file, 1.0),
    )
