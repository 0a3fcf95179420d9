"""Structures by position: every field in the order of its declaration."""

import pytest

from stages.exporters.c_code.structures import declared, positional


def test_fields_come_in_order_and_absent_ones_are_zero():
    fields = {"low": -5, "along": {"size": 3, "rank": 1, "sizes": [3], "strides": [1], "count": 2}}
    along, *others = positional("mean", fields)
    assert along == (
        "/* along */ {/* size */ 3, /* rank */ 1, /* sizes */ {3}, /* strides */ {1}, /* count */ 2, "
        "/* rank_of_count */ 0, /* sizes_of_count */ {}, /* strides_of_count */ {}}"
    )
    assert others == [
        "/* ratio */ {}",
        "/* zero_x */ 0",
        "/* zero_y */ 0",
        "/* low */ -5",
        "/* high */ 0",
    ]


def test_pointers_and_sizes_are_no_part_of_a_name():
    assert declared()["resample_t"]["columns"] == "int32_t"
    assert declared()["layer_norm_t"]["epsilon"] == "int64_t"
    assert declared()["combine_t"]["sizes"] == "int32_t[]"
    assert list(declared()["move_t"]) == ["size", "rank", "sizes", "from", "to", "wide"]


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(ValueError, match=r"ratio_t has no field \['shfit'\]; it has multiplier, shift"):
        positional("ratio", {"shfit": 1})
