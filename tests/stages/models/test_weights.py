from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from pipeline.errors import PipelineError
from stages.models.lenet import LeNet5, LeNet300100
from stages.models.mobilenet_digits import MobileNetDigits
from stages.models.weights import load_weights, weights_fingerprint

SHAPE = (1, 8, 8)


@pytest.fixture
def state():
    torch.manual_seed(1)
    return {name: t.clone() for name, t in MobileNetDigits().build(SHAPE, 10).state_dict().items()}


def build(path) -> nn.Module:
    return MobileNetDigits(weights=str(path)).build(SHAPE, 10)


def test_safetensors_pt_and_wrapped_checkpoints_load_alike(state, tmp_path):
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": parallel, "best_prec1": 92.0}, tmp_path / "c.pth")
    for name in ("a.safetensors", "b.pt", "c.pth"):
        loaded = build(tmp_path / name).state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_the_counter_of_batches_may_be_missing(state, tmp_path):
    kept = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(kept) < len(state)
    save_file(kept, tmp_path / "a.safetensors")
    assert torch.equal(build(tmp_path / "a.safetensors").classifier.weight, state["classifier.weight"])


def test_what_does_not_fit_is_named(state, tmp_path):
    state["extra.weight"] = state.pop("classifier.bias")
    state["classifier.weight"] = torch.zeros(7, 128)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(PipelineError) as error:
        build(tmp_path / "a.safetensors")
    assert str(error.value).splitlines() == [
        f"model.weights={tmp_path / 'a.safetensors'} does not fit mobilenet_digits:",
        "  1 missing: classifier.bias",
        "  1 unexpected: extra.weight",
        "  1 of another shape: classifier.weight [7, 128] instead of [10, 128]",
        "Remedy: choose the architecture that the file was trained as (model=…, model.<field>=…) and the "
        "data set whose channels and classes it knows (data=…).",
    ]


def test_weights_of_another_architecture_give_a_short_message(state, tmp_path):
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(PipelineError, match="does not fit lenet5") as error:
        LeNet5(weights=str(tmp_path / "a.safetensors")).build((1, 28, 28), 10)
    assert len(str(error.value)) < 700 and "…" in str(error.value)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(state, tmp_path, poison):
    state["features.1.1.0.weight"][0, 0] = poison
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(
        PipelineError, match=r"'features.1.1.0.weight' holds NaN or infinity in 1 of 512 places"
    ):
        build(tmp_path / "a.safetensors")


def test_a_missing_file_is_refused_with_the_remedy(tmp_path):
    model = LeNet300100(weights=str(tmp_path / "no.pt"))
    for ask in (model.fingerprint, lambda: model.build((1, 28, 28), 10)):
        with pytest.raises(PipelineError, match=r"model.weights=.*no.pt: no such file(.|\n)*Remedy: give"):
            ask()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_a_damaged_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x02not weights")
    with pytest.raises(PipelineError, match="not readable as weights"):
        build(tmp_path / name)


class Evil:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("payload", [Evil(), MobileNetDigits().build(SHAPE, 10)], ids=["code", "module"])
def test_pickled_code_is_refused(tmp_path, payload, capsys):
    torch.save(payload, tmp_path / "a.pt")
    with pytest.raises(PipelineError, match=r"reading it would run code(.|\n)*Remedy: where you trust"):
        build(tmp_path / "a.pt")
    assert capsys.readouterr().out == ""


def test_a_pickled_module_is_refused_with_the_two_lines_that_convert_it(state, tmp_path, monkeypatch):
    module = MobileNetDigits().build(SHAPE, 10)
    module.load_state_dict(state)
    torch.save(module, tmp_path / "whole.pt")
    with pytest.raises(PipelineError, match=r"a pickled module of type torch\.nn\.modules\.") as error:
        build(tmp_path / "whole.pt")
    lines = [line for line in str(error.value).splitlines() if line.startswith("  ")]
    assert len(lines) == 2
    monkeypatch.chdir(tmp_path)
    exec("\n".join(line.strip() for line in lines), {"torch": torch})
    assert torch.equal(build(tmp_path / "whole_weights.pt").classifier.weight, state["classifier.weight"])


def test_what_trainings_write_beside_tensors_is_read(state, tmp_path):
    beside = {
        "best": np.float64(0.5),
        "count": np.int64(3),
        "curve": np.arange(3.0),
        "args": argparse.Namespace(lr=0.1),
        "folder": tmp_path,
        "seen": {1, 2},
        "log": defaultdict(list),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
    }
    for name in ("model", "net", "params_ema"):
        torch.save({**beside, name: state}, tmp_path / "a.ckpt")
        assert torch.equal(build(tmp_path / "a.ckpt").classifier.weight, state["classifier.weight"])


class Settings:
    """What a training framework keeps beside tensors."""


@pytest.mark.parametrize("zipped", [True, False])
def test_the_type_that_is_not_read_is_named_without_terminal_codes(state, tmp_path, zipped):
    beside = {"state_dict": state, "settings": Settings()}
    torch.save(beside, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(PipelineError, match=r"objects beside tensors of type \S*\.Settings") as error:
        build(tmp_path / "a.ckpt")
    assert "\x1b" not in str(error.value) and "found['state_dict']" in str(error.value)


def test_of_several_keys_one_is_asked_for_unless_one_alone_fits(state, tmp_path):
    ema = {name: tensor * 2 for name, tensor in state.items()}
    path = tmp_path / "a.pt"
    torch.save({"generator": state, "discriminator": {"x.weight": torch.ones(1)}}, path)
    assert torch.equal(build(path).classifier.weight, state["classifier.weight"])
    torch.save({"model": state, "outer": {"ema": ema}}, path)
    with pytest.raises(PipelineError, match=r"'model', 'outer.ema'.\nRemedy: say which: model.key=model"):
        build(path)
    module = MobileNetDigits(weights=str(path), key="outer.ema").build(SHAPE, 10)
    assert torch.equal(module.classifier.weight, ema["classifier.weight"])
    with pytest.raises(PipelineError, match=r"model.key=modle: no tensors .*did you mean 'model'"):
        MobileNetDigits(weights=str(path), key="modle").build(SHAPE, 10)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_a_prefix_that_all_names_share_is_taken_off(state, tmp_path, prefix):
    save_file({f"{prefix}{name}": tensor for name, tensor in state.items()}, tmp_path / "a.safetensors")
    assert torch.equal(build(tmp_path / "a.safetensors").classifier.weight, state["classifier.weight"])


@pytest.mark.parametrize("prefix", ["model", "module.net"])
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_what_a_wrapper_holds_beside_the_network_is_left_out_with_a_word(
    state, tmp_path, prefix, key, caplog
):
    """Lightning's modules with a loss or metrics, and torch's AveragedModel with its counter."""
    held = {f"{prefix}.{name}": tensor for name, tensor in state.items()}
    held |= {"criterion.weight": torch.ones(10), "n_averaged": torch.tensor(3)}
    torch.save(held if key is None else {"epoch": 3, key: held}, tmp_path / "a.ckpt")
    assert torch.equal(build(tmp_path / "a.ckpt").classifier.weight, state["classifier.weight"])
    assert f"2 of a checkpoint left out beside '{prefix}.': criterion.weight, n_averaged" in caplog.text


def test_of_two_networks_in_a_wrapper_one_is_asked_for(state, tmp_path):
    path, ema = tmp_path / "a.ckpt", {name: tensor * 2 for name, tensor in state.items()}
    both = {f"{prefix}.{name}": t for prefix, s in (("model", state), ("ema", ema)) for name, t in s.items()}
    torch.save({"state_dict": both}, path)
    with pytest.raises(PipelineError, match=r"say which: model.key=state_dict.model"):
        build(path)
    module = MobileNetDigits(weights=str(path), key="state_dict.ema").build(SHAPE, 10)
    assert torch.equal(module.classifier.weight, ema["classifier.weight"])


def test_sparse_tensors_are_read(state, tmp_path):
    sparse = {**state, "classifier.weight": state["classifier.weight"].to_sparse()}
    torch.save(sparse, tmp_path / "a.pt")
    assert torch.equal(build(tmp_path / "a.pt").classifier.weight, state["classifier.weight"])


def test_a_head_beside_the_networks_own_names_is_not_left_out(state, tmp_path):
    torch.save({**state, "aux.weight": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(PipelineError, match=r"1 unexpected: aux.weight"):
        build(tmp_path / "a.pt")


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Linear(2, 2)
        self.head = self.model  # tied


def test_a_network_with_an_attribute_of_the_prefixs_name_loads(tmp_path):
    net = nn.ModuleDict({"model": nn.Linear(2, 2)})
    state = net.state_dict()
    for names in (state, {f"model.{name}": tensor for name, tensor in state.items()}):
        torch.save(dict(names), tmp_path / "a.pt")
        loaded = load_weights(nn.ModuleDict({"model": nn.Linear(2, 2)}), str(tmp_path / "a.pt"), "it")
        assert torch.equal(loaded.state_dict()["model.weight"], state["model.weight"])


def test_tied_weights_load_from_one_name_and_from_all(tmp_path):
    net, path = Wrapped(), tmp_path / "a.safetensors"
    save_model(net, str(path))
    assert len(load_file(path)) == 2
    assert torch.equal(load_weights(Wrapped(), str(path), "it").head.weight, net.head.weight)
    torch.save(net.state_dict(), tmp_path / "b.pt")
    assert torch.equal(load_weights(Wrapped(), str(tmp_path / "b.pt"), "it").head.weight, net.head.weight)
    apart = {name: t.clone() for name, t in net.state_dict().items()}
    apart["head.weight"] += 1
    torch.save(apart, tmp_path / "c.pt")
    with pytest.raises(
        PipelineError, match=r"'model.weight' and 'head.weight' are one tensor in the network"
    ):
        load_weights(Wrapped(), str(tmp_path / "c.pt"), "it")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_width_are_cast_with_a_word(state, tmp_path, dtype, caplog):
    cast = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    save_file(cast, tmp_path / "a.safetensors")
    module = build(tmp_path / "a.safetensors")
    assert module.classifier.weight.dtype == torch.float32
    assert torch.equal(module.classifier.weight, cast["classifier.weight"].float())
    assert f"tensors cast from {str(dtype).removeprefix('torch.')}" in caplog.text


def test_levels_where_the_network_has_floats_are_refused(state, tmp_path):
    state["classifier.weight"] = (state["classifier.weight"] * 127).to(torch.int8)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(PipelineError, match=r"'classifier.weight' is int8, and the network has float32"):
        build(tmp_path / "a.safetensors")


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_and_exported_programs_are_refused_with_the_remedy(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    with pytest.raises(PipelineError, match=r"TorchScript(.|\n)*torch.jit.load"):
        build(tmp_path / "a.pt")
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "b.pt2")
    with pytest.raises(PipelineError, match=r"Remedy: model=exported model.path="):
        build(tmp_path / "b.pt2")


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(
        PipelineError, match=r"a mapping with the keys epoch, not a mapping of names to tensors"
    ):
        build(tmp_path / "a.pt")


def test_the_fingerprint_is_the_files_sha256(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"abc")
    assert weights_fingerprint(str(tmp_path / "a.pt")) == hashlib.sha256(b"abc").hexdigest()
    assert weights_fingerprint(None) == ""
