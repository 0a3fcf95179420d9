"""A float network on real digits, observed, and a run's context that records metrics."""

import pytest
import torch

from pipeline.console import Console
from pipeline.context import RunContext
from stages.artifacts import FloatModel, Observations
from stages.backends import native
from stages.data.digits import Digits
from stages.graph.capture import capture
from stages.models.mobilenet_digits import MobileNetDigits
from stages.observe import Observe
from stages.training.fit import FloatTraining, fit
from tests.stages.backends.native_kernels.walk import walk_parts


class Recorder:
    """A tracker that remembers metrics."""

    def __init__(self):
        self.seen = []

    def tags(self, values):
        self.said = dict(values)

    def metrics(self, values, step=None):
        self.seen.append((step, dict(values)))


@pytest.fixture(scope="session", autouse=True)
def walked_plans():
    """Whatever the native engine gets in any test is walked before, and stays within its memory."""
    planned = native.parts

    def parts(program, **how):
        found = planned(program, **how)
        walk_parts(found, program)
        return found

    native.parts = parts
    yield
    native.parts = planned


@pytest.fixture
def ctx(tmp_path):
    return RunContext(
        run_dir=tmp_path,
        seed=0,
        device="cpu",
        tracker=Recorder(),
        store=None,
        console=Console(quiet=True),
        scratch=tmp_path,
    )


@pytest.fixture(scope="session")
def digits_inputs(tmp_path_factory):
    """The FloatModel of a short training, and its Observations."""
    data = Digits()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MobileNetDigits().build(data.shape, data.num_classes)
        fit(module, data, FloatTraining(epochs=3), seed=0)
    torch.set_num_threads(threads)
    model = FloatModel(graph=capture(module, data.shape))
    folder = tmp_path_factory.mktemp("observe")
    context = RunContext(
        run_dir=folder, seed=0, device="cpu", tracker=Recorder(), store=None, console=Console(quiet=True)
    )
    return {
        FloatModel: model,
        Observations: Observe(data=data, samples=256).run(context, {FloatModel: model}),
    }
