import pytest

from stages.backends.native_kernels.moves import BYTE, PIXEL, ROW, as_move
from stages.backends.native_kernels.segments import on_engine
from stages.backends.native_kernels.tokens import as_images, channels_last, over_images
from stages.integer.program import Op, Program, Value


def program(*ops: Op, **shapes: tuple[int, ...]) -> Program:
    levels = {"scale": 1.0, "zero_point": 0, "quant_min": 0, "quant_max": 255}
    values = {name: Value(name=name, shape=shape, **levels) for name, shape in shapes.items()}
    return Program(values=values, ops=ops, input="x", output=ops[-1].output, requantize="float")


def op(kind: str, output: str, *inputs: str, **attrs: object) -> Op:
    return Op(op=kind, inputs=inputs, output=output, attrs=attrs)


def test_three_dimensions_are_what_their_operators_say() -> None:
    """By value, it spreads from where it is known; moves pass it on to what nobody claims."""
    of_images = program(
        op("conv2d", "a", "x"), op("add", "y", "a", "a"), x=(3, 8, 8), a=(4, 8, 8), y=(4, 8, 8)
    )
    assert channels_last(of_images) == frozenset()
    shapes = {"x": (8, 8, 3), "a": (8, 8, 4), "b": (8, 8, 4), "y": (64, 4), "z": (4, 8, 8)}
    ops = (op("linear", "a", "x"), op("table", "b", "a"), op("reshape", "y", "b"), op("permute", "z", "b"))
    assert channels_last(program(*ops, **shapes)) == {"x", "a", "b", "y", "z"}
    claimed = program(*ops, op("conv2d", "c", "z"), **shapes, c=(1, 8, 8))
    assert channels_last(claimed) == {"x", "a", "b", "y"}


def test_what_two_layers_read_in_two_ways_is_an_image() -> None:
    both = program(op("linear", "a", "x"), op("conv2d", "y", "x"), x=(3, 8, 8), a=(3, 8, 4), y=(4, 8, 8))
    tokens = channels_last(both)
    assert "x" not in tokens
    assert over_images(both.ops[0], both, tokens) is None


@pytest.mark.parametrize(
    ("shape", "image"), [((7, 16), (16, 7, 1)), ((2, 3, 4, 16), (16, 24, 1)), ((16,), (16,))]
)
def test_rows_are_the_height(shape: tuple[int, ...], image: tuple[int, ...]) -> None:
    whole = program(op("linear", "y", "x"), x=shape, y=shape)
    assert as_images(whole, channels_last(whole)).values["x"].shape == image


def test_what_repeats_within_rows_is_left_to_the_reference() -> None:
    shapes = {"x": (2, 3, 4, 8), "a": (2, 1, 4, 8), "b": (1, 1, 1, 8), "y": (2, 3, 4, 8), "z": (2, 3, 4, 8)}
    both = program(op("multiply", "y", "x", "a"), op("multiply", "z", "x", "b"), **shapes)
    tokens = channels_last(both)
    assert over_images(both.ops[0], both, tokens) is None
    assert over_images(both.ops[1], both, tokens) == both.ops[1]


def test_wide_values_are_left_to_the_reference() -> None:
    moved = op("permute", "y", "x", axes=(1, 0))
    narrow = program(moved, x=(7, 16), y=(16, 7))
    assert on_engine(narrow) == {"y"}
    wide = {
        name: Value(name=name, shape=shape, scale=1.0, zero_point=0, quant_min=-(2**15), quant_max=2**15 - 1)
        for name, shape in (("x", (7, 16)), ("y", (16, 7)))
    }
    assert on_engine(Program(values=wide, ops=(moved,), input="x", output="y")) == frozenset()


def test_a_move_is_as_few_dimensions_as_can_be() -> None:
    """Rows, 3 heads and 4 channels are one each; an image's channels, rows and columns have own units."""
    heads = program(op("reshape", "y", "x"), x=(7, 12), y=(7, 3, 4))
    split = as_move(heads.ops[0], heads, frozenset({"x", "y"}))
    assert split is not None
    assert split.attrs["dimensions"] == [(7, ROW, 1, ROW, 3), (3, BYTE, 4, ROW, 1), (4, BYTE, 1, BYTE, 1)]
    patches = program(op("reshape", "y", "x"), x=(12, 2, 5), y=(12, 10))
    joined = as_move(patches.ops[0], patches, frozenset({"y"}))
    assert joined is not None
    assert joined.attrs["dimensions"] == [(12, BYTE, 1, ROW, 1), (2, ROW, 1, BYTE, 5), (5, PIXEL, 1, BYTE, 1)]


def test_a_reshape_whose_sizes_do_not_divide_is_no_move() -> None:
    apart = program(op("reshape", "y", "x"), x=(4, 6), y=(3, 8))
    assert as_move(apart.ops[0], apart, frozenset({"x", "y"})) is None
