import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.integer.flat import flatten, unflatten

TENSOR = hnp.arrays(
    st.sampled_from([np.int8, np.uint8, np.int32, np.float32]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    elements=st.integers(0, 100),
)
OPERATORS = st.lists(st.dictionaries(st.sampled_from("abcd"), TENSOR), max_size=5)


@given(operators=OPERATORS)
def test_unflatten_gives_back_what_was_flattened(operators: list[dict[str, np.ndarray]]) -> None:
    layouts, fields, arrays = flatten(operators)
    found = unflatten(layouts, fields, arrays)
    assert len(found) == len(operators)
    for actual, expected in zip(found, operators, strict=True):
        assert actual.keys() == expected.keys()
        for name, tensor in expected.items():
            assert actual[name].dtype == tensor.dtype
            assert actual[name].shape == tensor.shape
            assert (actual[name] == tensor).all()


def test_a_layout_is_written_once_whatever_the_order_of_names() -> None:
    a, b = np.arange(2, dtype=np.int8), np.arange(3, dtype=np.int32)
    layouts, fields, arrays = flatten([{"a": a, "b": b}, {"b": b + 9, "a": a + 9}, {}, {"a": b}])
    assert layouts[0] == {"a": "int8", "b": "int32"}
    assert [field.get("layout") for field in fields] == [0, 0, None, 1]
    assert arrays["int8"].tolist() == [0, 1, 9, 10]
    assert arrays["int32"].tolist() == [0, 1, 2, 9, 10, 11, 0, 1, 2]


@pytest.mark.parametrize(("size", "message"), [(3, r"tensor 'a' \(4,\) goes beyond"), (6, "2 numbers too")])
def test_arrays_of_another_size_are_refused(size: int, message: str) -> None:
    layouts, fields, _ = flatten([{"a": np.zeros(4, np.int8)}])
    with pytest.raises(ValueError, match=message + ".* int8 numbers: a file is damaged"):
        unflatten(layouts, fields, {"int8": np.zeros(size, np.int8)})
