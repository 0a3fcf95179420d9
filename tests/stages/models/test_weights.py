from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import PipelineError
from stages.models.lenet import LeNet5, LeNet300100
from stages.models.mobilenet_digits import MobileNetDigits
from stages.models.weights import weights_fingerprint

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
    with pytest.raises(PipelineError, match=r"not readable as weights(.|\n)*Remedy: save a plain state dict"):
        build(tmp_path / "a.pt")
    assert capsys.readouterr().out == ""


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(PipelineError, match="not a mapping of names to tensors"):
        build(tmp_path / "a.pt")


def test_the_fingerprint_is_the_files_sha256(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"abc")
    assert weights_fingerprint(str(tmp_path / "a.pt")) == hashlib.sha256(b"abc").hexdigest()
    assert weights_fingerprint(None) == ""
