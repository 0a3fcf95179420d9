"""A .pt2 file gives its network, and never runs code."""

from __future__ import annotations

import io
import json
import os
import zipfile

import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.models.base import weights_of
from stages.models.exported import ExportedModel


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, 5)).eval()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "a.pt2"
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return path


def changed(archive, target, name, change):
    """A copy with one member changed."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            new.writestr(member, change(content) if member.endswith(name) else content)
    return ExportedModel(path=str(target))


def member(archive, kind):
    """Where this torch keeps `kind`: a file a tensor with a list of them, or, as 2.8, one of `torch.save`."""
    with zipfile.ZipFile(archive) as written:
        names = [f"{kind}/model_{kind}_config.json", f"{kind}/model.pt"]
        return next(name for name in names if f"/data/{name}" in "".join(written.namelist()))


def test_the_network_of_the_file_is_captured_with_its_weights(archive):
    model = ExportedModel(path=str(archive))
    module = model.build((3, 8, 8), 5)
    assert set(module.state_dict()) == set(network().state_dict())
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    graph = capture(module.train(), (3, 8, 8))
    with torch.inference_mode():
        assert torch.allclose(execute(graph, x), network()(x), atol=1e-5)
    assert weights_of(model) == str(archive) and len(model.fingerprint()) == 64


def test_a_fixed_batch_and_another_shape_are_refused_with_the_remedy(archive, tmp_path):
    torch.export.save(torch.export.export(network(), (torch.zeros(2, 3, 8, 8),)), tmp_path / "b.pt2")
    with pytest.raises(PipelineError, match=r"batches of 2 and no others.\nRemedy: (.|\n)*dynamic_shapes"):
        ExportedModel(path=str(tmp_path / "b.pt2")).build((3, 8, 8), 5)
    with pytest.raises(PipelineError, match=r"was exported for samples of \['3', '8', '8'\], and the data's"):
        ExportedModel(path=str(archive)).build((1, 8, 8), 5)


class Evil:
    def __init__(self, ran):
        self.ran = ran

    def __reduce__(self):
        return (os.mkdir, (str(self.ran),))


def pickled(ran) -> bytes:
    buffer = io.BytesIO()
    torch.save(Evil(ran), buffer)
    return buffer.getvalue()


def as_json(change):
    def apply(content: bytes) -> bytes:
        found = json.loads(content)
        change(found)
        return json.dumps(found).encode()

    return apply


def test_nothing_of_a_file_that_could_run_code_is_run(archive, tmp_path):
    ran = tmp_path / "ran"

    def use_pickle(config):
        config["config"]["0.weight"]["use_pickle"] = True

    def call(model):
        model["graph_module"]["graph"]["nodes"][2]["target"] = "torch.hub.load"

    def size(model):
        text = json.dumps(model["graph_module"]["graph"]["tensor_values"])
        assert '"expr_str": "' in text
        found = json.loads(text.replace('"expr_str": "', '"expr_str": "exec(chr(1)) + '))
        model["graph_module"]["graph"]["tensor_values"] = found

    def name(model):
        text = json.dumps(model).replace('"input"', '"input=open(chr(97))"')
        model.update(json.loads(text))

    cases = [
        ("models/model.json", as_json(name), r"'input=open\(chr\(97\)\)' stands where a name should"),
        ("sample_inputs/model.pt", lambda _: pickled(ran), r"sample inputs \(.*\) are more than tensors"),
        ("models/model.json", as_json(call), "it calls 'torch.hub.load', and only operators of ATen"),
        ("models/model.json", as_json(size), "a size is given by 'exec"),
    ]
    if (weights := member(archive, "weights")).endswith(".json"):
        cases.append((weights, as_json(use_pickle), "'0.weight' is stored as a pickle"))
    else:
        cases.append((weights, lambda _: pickled(ran), r"weights \(.*\) are more than tensors"))
    for name, change, message in cases:
        with pytest.raises(PipelineError, match=message):
            changed(archive, tmp_path / "c.pt2", name, change).build((3, 8, 8), 5)
    assert not ran.exists()


def test_guards_are_left_out_and_other_members_are_not_read(archive, tmp_path):
    ran = tmp_path / "ran"

    def guard(model):
        model["guards_code"] = [f"__import__('os').mkdir({str(ran)!r}) or True"]

    changed(archive, tmp_path / "c.pt2", "models/model.json", as_json(guard)).build((3, 8, 8), 5)(
        torch.zeros(3, 3, 8, 8)
    )
    assert not ran.exists()


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_other_files_are_refused_with_the_remedy(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    (tmp_path / "b.pt2").write_bytes(b"no archive")
    torch.save({}, tmp_path / "c.pt2")
    cases = {
        "a.pt": "TorchScript(.|\n)*torch.jit.load",
        "b.pt2": "no archive of torch.export.save(.|\n)*Remedy: export",
        "c.pt2": "holds no exported program(.|\n)*Remedy: export",
        "d.pt2": "no such file",
    }
    for name, message in cases.items():
        with pytest.raises(PipelineError, match=message):
            ExportedModel(path=str(tmp_path / name)).build((2,), 2)


DAMAGED = {
    "no text": lambda _: b"\xff\xfe",
    "no JSON": lambda _: b"{",
    "deep": lambda _: b"[" * 10**5,
    "a list": lambda _: b"[]",
    "null": lambda _: b"null",
    "no tensors": lambda _: b'{"config": 3}',
    "no entries": lambda _: b'{"config": {"0.weight": true}}',
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("kind", ["model", "weights", "constants"])
@pytest.mark.parametrize("change", DAMAGED)
def test_a_damaged_member_is_named(archive, tmp_path, kind, change):
    name = "models/model.json" if kind == "model" else member(archive, kind)
    model = changed(archive, tmp_path / "c.pt2", name, DAMAGED[change])
    with pytest.raises(PipelineError, match=r"c.pt2: (.|\n)*Remedy: export") as error:
        model.build((3, 8, 8), 5)
    if change not in ("no tensors", "no entries") or kind != "model":
        assert name in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"PK"])
def test_damaged_sample_inputs_are_refused(archive, tmp_path, content):
    model = changed(archive, tmp_path / "c.pt2", "sample_inputs/model.pt", lambda _: content)
    with pytest.raises(PipelineError, match=r"its sample inputs \(.*\) are more than tensors,.* damaged"):
        model.build((3, 8, 8), 5)


def saved_with(weight: torch.Tensor, path) -> ExportedModel:
    """A network that computes on one parameter, of any kind."""

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(weight, requires_grad=False)

        def forward(self, x):
            return (
                x * self.weight.real.float().sum() if weight.is_complex() else x * self.weight.float().sum()
            )

    dynamic = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(Holder(), (torch.zeros(2, 3),), dynamic_shapes=dynamic), path)
    return ExportedModel(path=str(path))


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (torch.zeros(3, dtype=torch.complex64), "'weight' is complex64, which is none of float16"),
        (torch.zeros(3).to(torch.float8_e4m3fn), "'weight' is float8_e4m3fn, which is none of float16"),
        (torch.tensor([1.0, float("nan"), 2.0]), "'weight' holds NaN or infinity in 1 of 3 places"),
        (torch.tensor([1.0, float("inf"), 2.0]), "'weight' holds NaN or infinity in 1 of 3 places"),
    ],
)
def test_weights_that_are_no_plain_finite_numbers_are_named(tmp_path, weight, said):
    with pytest.raises(PipelineError, match=f"a.pt2: {said}(.|\n)*Remedy: "):
        saved_with(weight, tmp_path / "a.pt2").build((3,), 3)
    saved_with(torch.ones(3), tmp_path / "b.pt2").build((3,), 3)
