"""A damaged or hostile file is one ValueError that names it, before memory or another file is touched."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.exporters.onnx_graph.qdq import program_to_onnx
from stages.graph.lower import lower
from stages.importers.model import ImportedModel
from stages.importers.onnx_file.reading import read_graph
from tests.stages.importers.files import model, saved
from tests.stages.reporting.conftest import make_run


def conv(weight: onnx.TensorProto) -> onnx.ModelProto:
    made = model([helper.make_node("Conv", ["x", "w"], ["y"], name="c")], ["n", 3, 4, 4])
    made.graph.initializer.append(weight)
    return made


def refused(made: onnx.ModelProto, folder, text: str) -> None:
    path = saved(made, folder)
    with pytest.raises(ValueError, match=text) as error:
        read_graph(path)
    assert str(error.value).startswith(str(path))


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = conv(numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")).SerializeToString()
    path = tmp_path / "net.onnx"
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"net.onnx: "):
            read_graph(path)
    path.write_bytes(b"\x80\x04\x95pickle")
    with pytest.raises(ValueError, match=r"no readable ONNX file|no ONNX file"):
        read_graph(path)


@pytest.mark.parametrize("byte", range(0, 400, 3))
def test_a_changed_byte_is_refused_or_read(tmp_path, byte):
    whole = bytearray(
        conv(numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")).SerializeToString()
    )
    whole[byte % len(whole)] ^= 0x5A
    path = tmp_path / "net.onnx"
    path.write_bytes(bytes(whole))
    try:
        ImportedModel(path=str(path)).build((3, 4, 4), 2)
    except ValueError as error:
        assert "net.onnx" in str(error)


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_of_a_quantized_file_are_refused_or_read(tmp_path, seed):
    whole = program_to_onnx(lower(make_run(["conv", "linear"]).model.quantized, "float")).SerializeToString()
    rng, path = np.random.default_rng(seed), tmp_path / "net.onnx"
    for _ in range(40):
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[rng.integers(0, len(whole), 2)] = rng.integers(0, 256, 2)
        path.write_bytes(changed.tobytes())
        try:
            ImportedModel(path=str(path)).program()
        except ValueError as error:
            assert "net.onnx" in str(error)


def test_sizes_that_the_data_does_not_fill_take_no_memory(tmp_path):
    huge = TensorProto(name="w", data_type=1, dims=[2**40, 2**20, 3, 3], raw_data=b"1234")
    typed = TensorProto(name="w", data_type=1, dims=[4, 3, 3, 3], float_data=[1.0])
    negative = TensorProto(name="w", data_type=1, dims=[-1, 3, 3, 3], raw_data=b"")
    text = TensorProto(name="w", data_type=8, dims=[1], string_data=[b"a"])
    tracemalloc.start()
    refused(conv(huge), tmp_path, r"tensor 'w': dimensions \[1099511627776, .*\] need \d+ of what it holds 4")
    refused(conv(typed), tmp_path, r"tensor 'w': dimensions \[4, 3, 3, 3\] need 108 of what it holds 1")
    refused(conv(negative), tmp_path, r"tensor 'w': dimensions \[-1, 3, 3, 3\] must not be negative")
    refused(conv(text), tmp_path, r"tensor 'w': holds STRING, which is not read")
    shape = {"s": np.array([2**15, 2**15, 2**10])}
    fill = [
        helper.make_node("ConstantOfShape", ["s"], ["c"], name="f"),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    with pytest.raises(ValueError, match=r"ConstantOfShape 'f': gives \d+ constants"):
        ImportedModel(path=str(saved(model(fill, ["n", 3], shape), tmp_path))).build((3,), 1)
    tile = [helper.make_node("Tile", ["x", "s"], ["y"], name="t")]
    with pytest.raises(ValueError, match=r"Tile 't': gives \[.*\], too large"):
        many = {"s": np.array([1, 2**32])}
        ImportedModel(path=str(saved(model(tile, ["n", 3], many), tmp_path))).build((3,), 1)
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "a/../../secret", "link", ""])
def test_tensors_outside_the_folder_are_not_read(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 48)
    (folder / "link").symlink_to(tmp_path / "secret")
    weight = TensorProto(name="w", data_type=1, dims=[4, 3, 1, 1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    refused(conv(weight), folder, r"tensor 'w': its data lies in '.*', and only files in the model's folder")


def test_tensors_beside_the_file_are_read_whole_or_not(tmp_path):
    weight = TensorProto(name="w", data_type=1, dims=[4, 3, 1, 1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="w.bin")
    weight.external_data.add(key="offset", value="4")
    refused(conv(weight), tmp_path, r"tensor 'w': no 48 bytes from 4 on in .*w.bin")
    (tmp_path / "w.bin").write_bytes(b"\0" * 4 + np.arange(12, dtype=np.float32).tobytes())
    path = saved(conv(weight), tmp_path)
    assert read_graph(path).constants["w"].reshape(-1).tolist() == list(range(12))
    before = ImportedModel(path=str(path)).fingerprint()
    (tmp_path / "w.bin").write_bytes(b"\0" * 52)
    assert ImportedModel(path=str(path)).fingerprint() != before
    weight.external_data.add(key="length", value="2")
    refused(conv(weight), tmp_path, r"tensor 'w': 2 bytes from 4 on in 'w.bin', where its dimensions need 48")


def test_nodes_that_do_not_fit_together_are_named(tmp_path):
    def relu(x, y):
        return helper.make_node("Relu", [x], [y], name=f"{x}{y}")

    refused(
        model([relu("gone", "y")], ["n", 3]), tmp_path, r"Relu 'goney' reads 'gone', which nothing computes"
    )
    circle = [relu("y", "a"), relu("a", "y")]
    refused(model(circle, ["n", 3]), tmp_path, r"Relu 'ya' reads 'y', which a later node computes: .* circle")
    refused(
        model([relu("x", "y"), relu("x", "y")], ["n", 3]), tmp_path, r"computes 'y', which is there already"
    )
    refused(model([relu("x", "z")], ["n", 3]), tmp_path, r"nothing computes the output 'y'")
    refused(
        model([relu("x", "y")], ["n", 3], opset=99),
        tmp_path,
        r"operators of version 99, and 7\.\.26 are known",
    )
    foreign = helper.make_node("Magic", ["x"], ["y"], name="m", domain="my.own")
    refused(
        model([foreign], ["n", 3]), tmp_path, r"Magic 'm' is of domain 'my.own', which is not known. Remedy:"
    )
    inner = helper.make_graph([relu("x", "b")], "inner", [], [helper.make_tensor_value_info("b", 1, None)])
    branch = helper.make_node("If", ["x"], ["y"], name="i", then_branch=inner, else_branch=inner)
    refused(model([branch], ["n", 3]), tmp_path, r"If 'i' holds a graph of its own: control flow is not read")
    refused(model([relu("x", "y")], [2**40, 3]), tmp_path, r"input 'x': sizes .* must be 1\.\.2\^31-1")


def test_functions_of_the_file_are_written_out(tmp_path):
    body = helper.make_function(
        "mine",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    made = model([helper.make_node("Twice", ["x"], ["y"], domain="mine")], ["n", 3])
    made.functions.append(body)
    made.opset_import.append(helper.make_opsetid("mine", 1))
    assert [node.op for node in read_graph(saved(made, tmp_path)).nodes] == ["Add"]
