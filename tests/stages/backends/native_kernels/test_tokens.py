import pytest

from stages.backends.native_kernels.arrange import arranged
from stages.backends.native_kernels.moves import LEVEL, PIXEL, ROW, as_move
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


def test_what_two_layers_read_in_two_ways_is_an_image_and_a_copy_of_tokens() -> None:
    both = program(op("linear", "a", "x"), op("conv2d", "y", "x"), x=(3, 8, 8), a=(3, 8, 4), y=(4, 8, 8))
    tokens = channels_last(both)
    assert tokens == {"a"}
    found = arranged(both.ops[0], both, tokens)
    assert [(one.op, one.inputs, one.output) for one in found.ops] == [
        ("permute", ("x",), "a/step 3"),
        ("linear", ("a/step 3",), "a"),
    ]
    assert found.tokens == {"a", "a/step 3"} and found.ops[0].attrs == {"axes": (0, 1, 2)}
    assert [one.op for one in arranged(both.ops[1], both, tokens).ops] == ["conv2d"]


@pytest.mark.parametrize(
    ("shape", "image"), [((7, 16), (16, 7, 1)), ((2, 3, 4, 16), (16, 24, 1)), ((16,), (16,))]
)
def test_rows_are_the_height(shape: tuple[int, ...], image: tuple[int, ...]) -> None:
    whole = program(op("linear", "y", "x"), x=shape, y=shape)
    assert as_images(whole, channels_last(whole)).values["x"].shape == image


def test_rows_that_repeat_are_mapped() -> None:
    shapes = {"x": (2, 3, 4, 8), "a": (2, 1, 4, 8), "b": (1, 1, 1, 8), "y": (2, 3, 4, 8), "z": (2, 3, 4, 8)}
    both = program(op("multiply", "y", "x", "a"), op("multiply", "z", "x", "b"), **shapes)
    tokens = channels_last(both)
    first, second = (over_images(one, both, tokens) for one in both.ops)
    assert first is not None and second is not None
    assert first.attrs["maps"][0] is None and second.attrs["maps"] == (None, None)
    assert first.attrs["maps"][1].tolist() == [*range(4)] * 3 + [*range(4, 8)] * 3


def test_an_operator_along_another_dimension_is_computed_on_a_copy() -> None:
    whole = program(op("softmax", "y", "x", axis=1), x=(2, 5, 3, 4), y=(2, 5, 3, 4))
    found = arranged(whole.ops[0], whole, channels_last(whole))
    assert [(one.op, one.attrs) for one in found.ops] == [
        ("permute", {"axes": (0, 2, 3, 1)}),
        ("softmax", {"axis": 3}),
        ("permute", {"axes": (0, 3, 1, 2)}),
    ]
    assert [found.program.values[one.output].shape for one in found.ops] == [
        *((2, 3, 4, 5), (2, 3, 4, 5), (2, 5, 3, 4))
    ]
    image = program(op("softmax", "y", "x", axis=0), x=(2, 5, 3), y=(2, 5, 3))
    assert arranged(image.ops[0], image, frozenset()).ops == [image.ops[0]]


def test_wide_values_are_moved_and_not_concatenated() -> None:
    levels = {"scale": 0.5, "zero_point": 0, "quant_min": -(2**15), "quant_max": 2**15 - 1}
    shapes = {"x": (7, 16), "y": (16, 7), "z": (32, 7)}
    values = {name: Value(name=name, shape=shape, **levels) for name, shape in shapes.items()}
    ops = (op("permute", "y", "x", axes=(1, 0)), op("concat", "z", "y", "y", axis=0))
    assert on_engine(Program(values=values, ops=ops, input="x", output="z")) == {"y"}


def test_a_move_is_as_few_dimensions_as_can_be() -> None:
    """Rows, 3 heads and 4 channels are one each; an image's channels, rows and columns have own units."""
    heads = program(op("reshape", "y", "x"), x=(7, 12), y=(7, 3, 4))
    split = as_move(heads.ops[0], heads, frozenset({"x", "y"}))
    assert split is not None
    (move,) = split.attrs["moves"]
    assert move.dimensions == ((7, ROW, 1, ROW, 3), (3, LEVEL, 4, ROW, 1), (4, LEVEL, 1, LEVEL, 1))
    patches = program(op("reshape", "y", "x"), x=(12, 2, 5), y=(12, 10))
    joined = as_move(patches.ops[0], patches, frozenset({"y"}))
    assert joined is not None
    (move,) = joined.attrs["moves"]
    assert move.dimensions == ((12, LEVEL, 1, ROW, 1), (2, ROW, 1, LEVEL, 5), (5, PIXEL, 1, LEVEL, 1))


def test_evenly_spaced_indices_are_a_step_and_others_a_list() -> None:
    for indices, expected in {
        (1, 3, 5): ((3, LEVEL, 2, LEVEL, 1), (1, 0, 0), ()),
        (2, 2): ((2, LEVEL, 0, LEVEL, 1), (2, 0, 0), ()),
        (4, 0, 1): ((3, LEVEL, 1, LEVEL, 1), (0, 0, 0), (4, 0, 1)),
        (5, 4): ((2, LEVEL, 1, LEVEL, 1), (0, 0, 0), (5, 4)),
    }.items():
        whole = program(op("take", "y", "x", axis=1, indices=indices), x=(4, 6), y=(4, len(indices)))
        taken = as_move(whole.ops[0], whole, frozenset({"x", "y"}))
        assert taken is not None
        (move,) = taken.attrs["moves"]
        assert (move.dimensions[1], move.start, move.indices) == expected
        assert move.listed == (1 if expected[2] else -1)


def test_a_reshape_whose_sizes_do_not_divide_goes_by_way_of_a_vector() -> None:
    apart = program(op("reshape", "y", "x"), x=(4, 6), y=(3, 8))
    assert as_move(apart.ops[0], apart, frozenset({"x", "y"})) is None
    found = arranged(apart.ops[0], apart, frozenset({"x", "y"}))
    assert [found.program.values[one.output].shape for one in found.ops] == [(24,), (3, 8)]
    assert on_engine(apart) == {"y"}
