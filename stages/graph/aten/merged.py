"""Functions over images or rows whose first dimension holds more than the batch: windows (N·k, C, H, W).

A sample then is k images (k, C, H, W). What works on each channel by itself, as pools do, takes them as k·C
channels of one. Convolutions read all channels: the images lie above each other in one, (C, k·H, W), each
with its padding, and so high that the next begins on a row that the stride meets; what is computed between
two images is left out. Rows (k, C, L) are an image (C, k, L) under a kernel of one row.
"""

from __future__ import annotations

from dataclasses import replace

from stages.graph.aten.batch import Placement
from stages.graph.aten.call import Call, Ref, Translation, pair
from stages.graph.aten.chain import Chain
from stages.graph.aten.layers import conv2d, over_image, padding_of
from stages.graph.ir import Node

Translated = Node | tuple[Node, ...] | str

CHANNELWISE = frozenset(
    {"max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"}
    | {"upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d"}
)
"""Functions that treat each channel by itself."""

SPATIAL = CHANNELWISE | {"conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"}


def over_merged(name: str, translation: Translation) -> Translation:
    """The translation of one of `SPATIAL`, that takes images which are merged with the batch as well."""

    def translate(call: Call) -> Translated:
        traced = call.input_layout()
        if traced.first:
            return translation(call)
        if traced.dim or len(traced.shape) != (3 if "1d" in name else 4) or "transpose" in name:
            raise ValueError("works on windows that are merged with the batch")
        if name in CHANNELWISE:
            return _by_channel(call, translation)
        return _rows(call) if name == "conv1d" else _images(call)

    return translate


def _by_channel(call: Call, translation: Translation) -> Translated:
    """Images (k, C, …) as k·C channels."""
    images, channels, *size = call.input_shape()
    chain = Chain.over(call).reshape((images * channels, *size))
    result = translation(_over(call, chain, (images * channels, *call.shape[2:])))
    nodes = (result,) if isinstance(result, Node) else result
    if isinstance(nodes, str):
        return Node(name="", op="reshape", inputs=(nodes,), attrs={"shape": call.shape})
    shape = (images * channels, *call.shape[2:])
    return (
        *nodes[:-1],
        replace(nodes[-1], shape=shape),
        Node(name="", op="reshape", attrs={"shape": call.shape}),
    )


def _rows(call: Call) -> Translated:
    """Rows (k, C, L) as an image (C, k, L)."""
    chain = Chain.over(call).permute((1, 0, 2))
    images, channels, length = call.shape
    shape = (channels, images, length)
    return (
        Chain(call, call.emit(replace(conv2d(_over(over_image(call), chain, shape)), shape=shape)), shape)
        .permute((1, 0, 2))
        .result()
    )


def _images(call: Call) -> Translated:
    """Images (k, C, H, W) above each other, (C, k·H, W)."""
    weight = call.parameter()
    images, channels, height, width = call.input_shape()
    _, outputs, rows, columns = call.shape
    (above, beside), stride = padding_of(call, weight.tensor.shape[2:]), pair(call.arg(3, "stride", 1))
    own = height + 2 * above
    below = above + -own % stride[0]
    own += -own % stride[0]
    chain = Chain.over(call).permute((1, 0, 2, 3))
    if above or below:
        pads = ((0, 0), (0, 0), (above, below), (0, 0))
        chain.then("pad", (channels, images, own, width), pads=pads)
    chain.reshape((channels, images * own, width))
    reach = pair(call.arg(5, "dilation", 1))[0] * (weight.tensor.shape[2] - 1) + 1
    tall = (outputs, (images * own - reach) // stride[0] + 1, columns)
    as_tall = replace(
        call,
        args=(*call.args[:2], call.arg(2, "bias"), stride, (0, beside), *_rest(call)),
        kwargs={},
    )
    made = call.emit(replace(conv2d(_over(as_tall, chain, tall)), shape=tall))
    chain = Chain(call, made, tall)
    chain.take(1, [image * (own // stride[0]) + i for image in range(images) for i in range(rows)])
    return chain.reshape((outputs, images, rows, columns)).permute((1, 0, 2, 3)).result()


def _rest(call: Call) -> tuple[object, object]:
    return call.arg(5, "dilation", 1), call.arg(6, "groups", 1)


def _over(call: Call, chain: Chain, shape: tuple[int, ...]) -> Call:
    """The call over the chain's value, with the batch first and alone, giving `shape` for a sample."""
    batch = call.layout.batch

    def first(sample: tuple[int, ...]) -> Placement:
        return Placement(shape=(batch, *sample), batch=batch, dim=0)

    image = Ref(chain.name, first(chain.shape), call.input_dtype())
    return replace(call, args=(image, *call.args[1:]), layout=first(shape))
