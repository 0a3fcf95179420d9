"""A layer as a matrix product: at every position it gives what the layer gives."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corrections.lockstep import LayerInputs
from stages.corrections.patches import sample_patches
from stages.graph.execute import compute
from stages.graph.ir import Graph, Node


@st.composite
def layers(draw):
    """A layer with random geometry, its graph, and the shape of its input."""
    groups, per_group, out_per_group = (draw(st.integers(1, 3)) for _ in range(3))
    if draw(st.booleans()):
        features, rows = draw(st.integers(1, 9)), draw(st.sampled_from([(), (3,), (2, 4)]))
        shape = (*rows, out_per_group)
        node = Node(name="l", op="linear", inputs=("x",), params={"weight": "w"}, shape=shape)
        return node, torch.randn(out_per_group, features), (*rows, features)
    kernel, stride, padding, dilation = (
        (draw(st.integers(low, 3)), draw(st.integers(low, 2))) for low in (1, 1, 0, 1)
    )
    size = tuple(draw(st.integers(0, 4)) + 1 + d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    shape = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)
    )
    outputs = groups * out_per_group
    node = Node(
        name="l", op="conv2d", inputs=("x",), attrs=attrs, params={"weight": "w"}, shape=(outputs, *shape)
    )
    return node, torch.randn(outputs, per_group, *kernel), (groups * per_group, *size)


@settings(deadline=None, max_examples=60)
@given(layers(), st.integers(1, 40))
def test_the_product_is_the_layers_output_at_every_position(layer, samples):
    node, weight, shape = layer
    graph = Graph(nodes=(Node(name="x", op="input", shape=shape), node), params={"w": weight}, output="l")
    x = torch.randn(samples, *shape)
    inputs = LayerInputs(node=node, floats=(x,), simulated=(x,))
    patches = sample_patches(graph, inputs, 10**9, torch.Generator().manual_seed(0))
    groups, _, outputs = patches.target.shape
    channel = 0 if node.op == "conv2d" else -1
    assert len(patches) == samples * prod(node.shape) // node.shape[channel]
    product = torch.bmm(patches.x, weight.reshape(groups, outputs, -1).transpose(1, 2))
    torch.testing.assert_close(product, patches.target, rtol=1e-4, atol=1e-4)
    channels_first = compute(graph, node, x).movedim(1 if node.op == "conv2d" else -1, 0)
    everything = channels_first.flatten(1)  # (O, all positions), in another order
    drawn = patches.target.transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(drawn.sort(dim=1).values, everything.sort(dim=1).values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("limit", [1, 5000, 10**9])
def test_rows_are_as_many_as_the_limit_holds(quantized, samples, limit):
    graph = quantized.graph
    node = graph["expand"]
    operands = (torch.rand(50, 8, 4, 4), torch.rand(50, 8, 4, 4))
    inputs = LayerInputs(node=node, floats=operands, simulated=operands)
    patches = sample_patches(graph, inputs, limit, torch.Generator().manual_seed(0))
    held = [patches.x, patches.target, patches.residual]
    size = sum(t.numel() * 4 for t in held)
    assert size <= max(limit, size // len(patches))
    assert len(patches) == min(50 * 16, max(1, limit * len(patches) // size))


def test_residual_and_activation_belong_to_the_target(quantized, samples):
    graph = quantized.graph
    node = graph["expand"]
    operands = (torch.rand(50, 8, 4, 4), torch.randn(50, 8, 4, 4))
    inputs = LayerInputs(node=node, floats=operands, simulated=operands)
    patches = sample_patches(graph, inputs, 10**9, torch.Generator().manual_seed(0))
    product = torch.bmm(patches.x, graph.params["expand.weight"].reshape(2, 4, -1).transpose(1, 2))
    y = product + graph.params["expand.bias"].reshape(2, 1, 4) + patches.residual
    torch.testing.assert_close(torch.relu(y), patches.target, rtol=1e-4, atol=1e-5)
