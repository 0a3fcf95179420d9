"""Tokens in: their numbers stay exact, whatever the size of the vocabulary, in whatever runs them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.artifacts import IntegerProgram
from stages.backends.native import Native
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.integer.format import load_program, save_program
from stages.integer.interpreter import Interpreter, quantize_input
from tests.quantizing import check_parity, fused, quantized

LENGTH, WIDTH = 6, 16


class Encoder(nn.Module):
    """Embeddings of words and places, attention that leaves padding out, and a mean over positions."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(tokens, WIDTH, padding_idx=0), nn.Embedding(LENGTH, WIDTH)
        self.norm, self.qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, ids):
        x = self.norm(self.words(ids) + self.places(torch.arange(LENGTH)))
        q, k, v = self.qkv(x).chunk(3, -1)
        keep = (ids != 0)[:, None]
        x = x + F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        return self.head(x.mean(1))


@pytest.fixture(scope="module", params=[40, 1000])
def tokens(request):
    torch.manual_seed(0)
    return request.param


@pytest.fixture(scope="module")
def model(tokens):
    graph = fused(Encoder(tokens), (LENGTH,), torch.int64)
    return quantized(graph, samples(tokens))


def samples(tokens: int) -> torch.Tensor:
    ids = torch.randint(1, tokens, (64, LENGTH), generator=torch.Generator().manual_seed(1))
    ids[:, 3:] *= torch.randint(0, 2, (64, 3), generator=torch.Generator().manual_seed(2))
    ids[0] = tokens - 1
    return ids.float()


def test_numbers_of_tokens_are_exact_and_the_simulation_is_the_program(model, tokens):
    x = samples(tokens)
    program = lower(model, "float")
    assert {"embedding", "softmax"} <= {op.op for op in program.ops}
    assert not any(op.op == "island" for op in program.ops)
    levels = check_parity(program, x)
    assert (levels["input"] == x.numpy()).all()
    assert levels["input"].dtype == (np.int32 if tokens > 256 else np.uint8)
    masked = next(op.output for op in program.ops if op.op == "softmax")
    assert (levels[masked].transpose(0, 2, 1)[x.numpy() == 0] == program.values[masked].zero_point).all()


@pytest.mark.parametrize("mode", ["fixed_point", "fixed_point_single"])
def test_every_mode_agrees(model, tokens, mode):
    check_parity(lower(model, mode), samples(tokens))


def test_integers_are_near_the_float_network(model, tokens):
    x = samples(tokens)
    program = IntegerProgram(program=lower(model, "float"))
    expected = execute(model.graph, x).numpy()
    assert (
        np.abs(program.run(x.numpy(), backend="reference") - expected).max() < 0.05 * np.abs(expected).max()
    )


def test_the_native_engine_takes_tokens(model, tokens):
    program = lower(model, "float")
    q = quantize_input(program, samples(tokens).numpy())
    engine = Native().compile(program)
    assert (engine.run(q) == Interpreter(program).run(q)).all()
    trace = Interpreter(program).trace(q)
    for name, levels in engine.trace(q).items():
        assert (levels == trace[name]).all(), name
    assert (
        engine.predict(samples(tokens).numpy())
        == IntegerProgram(program=program).run(samples(tokens).numpy(), backend="reference")
    ).all()


def test_a_program_of_tokens_is_the_same_from_disk(model, tokens, tmp_path):
    program = lower(model, "float")
    save_program(program, tmp_path)
    q = quantize_input(program, samples(tokens).numpy())
    assert (Interpreter(load_program(tmp_path)).run(q) == Interpreter(program).run(q)).all()


def test_onnx_takes_tokens(model, tokens):
    runtime = pytest.importorskip("stages.backends.onnxruntime")
    program = lower(model, "float")
    q = quantize_input(program, samples(tokens).numpy())
    trace = runtime.OnnxRuntime(threads=1).compile(program).trace(q)
    expected = Interpreter(program).trace(q)
    embedding = next(op.output for op in program.ops if op.op == "embedding")
    assert (trace[embedding] == expected[embedding]).all()
    assert np.abs(trace[program.output].astype(int) - expected[program.output]).max() <= 3


class Numbered(nn.Module):
    """Places and kinds of tokens that are computed from the tokens: all kinds are one."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.kinds = nn.Embedding(9, 8), nn.Embedding(9, 8), nn.Embedding(2, 8)
        self.register_buffer("none", torch.zeros(1, LENGTH, dtype=torch.int64))

    def forward(self, ids):
        places = torch.cumsum((ids != 0).int(), 1).long()
        kinds = torch.gather(self.none.expand(len(ids), -1), 1, places % LENGTH)
        return self.words(ids) + self.places(places) + self.kinds(kinds)


def test_numbers_that_are_computed_stay_exact(caplog):
    """Places that are counted from a mask; and a value that is 0 on all samples, of two kinds."""
    torch.manual_seed(0)
    graph, x = fused(Numbered(), (LENGTH,), torch.int64), samples(9)
    model = quantized(graph, x)
    program = lower(model, "float")
    assert [op.attrs["operator"] for op in program.ops if op.op == "island"] == ["aten"] * 2
    embeddings = [op for op in program.ops if op.op == "embedding"]
    assert len(embeddings) == 3
    levels = check_parity(program, x)
    places = np.cumsum(x.numpy() != 0, axis=1)
    assert any((levels[op.inputs[0]] == places).all() for op in embeddings)
    exact = execute(model.graph, x).numpy()
    real = IntegerProgram(program=program).run(x.numpy(), backend="reference")
    assert np.abs(real - exact).max() < 0.03 * np.abs(exact).max()
    assert "are rounded" not in caplog.text


class Counted(nn.Module):
    """As many places as 8 bits do not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(400, 4)

    def forward(self, ids):
        return self.places(torch.cumsum((ids != 0).int(), 1).long())


def test_numbers_beyond_8_bits_are_told_of(caplog):
    graph = fused(Counted(), (300,), torch.int64)
    program = lower(quantized(graph, torch.ones(2, 300)), "float")
    assert [op.attrs["operator"] for op in program.ops if op.op == "island"] == ["aten", "embedding"]
    assert "numbers of rows up to 300 are rounded; 8 bits hold those below 256" in caplog.text
