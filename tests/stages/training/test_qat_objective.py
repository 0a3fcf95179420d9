"""When what moves in quantization-aware training, and what is minimized."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stages.tasks.classification import Classification
from stages.training.qat_layer import Phase
from stages.training.qat_objective import Distillation, QatObjective, QatSchedule

shares = st.floats(0.0, 0.999)


@given(
    delay=shares,
    observers=shares,
    batch_norm=shares,
    steps=st.integers(1, 500),
    mode=st.sampled_from(["corrected", "naive", "frozen"]),
)
def test_every_training_ends_as_it_will_be_deployed(delay, observers, batch_norm, steps, mode):
    """The last step rounds, with resting ranges and statistics; phases change once and never back."""
    schedule = QatSchedule(
        delay=delay, freeze_observers=observers, freeze_batch_norm=batch_norm, batch_norm=mode
    )
    phases = [schedule.phase(step, steps) for step in range(steps)]
    assert phases[-1] == Phase()
    assert schedule.settled(steps, steps)
    for name, falls in (("quantize", False), ("observe", True), ("batch_statistics", True)):
        values = [getattr(phase, name) for phase in phases]
        assert values == sorted(values, reverse=falls)
    assert [phase.quantize for phase in phases].index(True) == schedule.first(steps)
    assert [schedule.settled(step, steps) for step in range(steps)] == [p == Phase() for p in phases]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"delay": 1.0}, "delay=1.0: must be in .* nothing would be trained with rounding"),
        ({"freeze_observers": 1.0}, "freeze_observers=1.0: .* converted while its scales still move"),
        ({"freeze_batch_norm": 1.0}, "freeze_batch_norm=1.0: .* statistics that it was never trained with"),
        ({"freeze_batch_norm": 1.5, "batch_norm": "naive"}, "freeze_batch_norm=1.5"),
        ({"delay": -0.1}, "delay=-0.1"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        QatSchedule(**settings)


def test_naive_folding_may_go_unfrozen():
    schedule = QatSchedule(batch_norm="naive", freeze_batch_norm=1.0)
    assert schedule.phase(99, 100).batch_statistics
    assert schedule.settled(100, 100)


def no_teacher(x):
    raise AssertionError("nobody asked for a teacher")


UNTAUGHT = {"teacher": no_teacher, "distillation": Distillation(), "task": Classification()}


class Student(nn.Linear):
    """What the objective asks of a `QatNetwork`."""

    def __init__(self):
        super().__init__(4, 3)
        self.scale = nn.Parameter(torch.ones(()))
        self.initialized = 0

    def initialize(self, x):
        self.initialized += 1

    def penalty(self):
        return 0.25 * self.scale

    def estimated(self):
        yield self.scale


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)


def test_distillation_is_hinton_s(batch):
    x, y = batch
    student, teacher = Student(), nn.Linear(4, 3)
    distillation = Distillation(weight=0.3, temperature=2.0)
    objective = QatObjective(
        student, QatSchedule(), teacher=teacher, distillation=distillation, task=Classification()
    )
    loss, logits = objective.loss(x, y, 3, 10)
    p = (teacher(x) / 2.0).softmax(1)
    divergence = (p * (p.log() - (logits / 2.0).log_softmax(1))).sum(1).mean()
    expected = 0.7 * F.cross_entropy(logits, y) + 0.3 * 4.0 * divergence + 0.25
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert teacher.weight.grad is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"weight": 1.5}, "weight=1.5: must be a share"), ({"temperature": 0.0}, "temperature=0.0: must be")],
)
def test_useless_distillation_is_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        Distillation(**settings)


def test_ranges_start_at_the_first_step_that_rounds(batch):
    """Also where that is the first step after a resumption."""
    student = Student()
    objective = QatObjective(student, QatSchedule(delay=0.5), **UNTAUGHT)
    for step, expected in ((3, 0), (4, 0), (5, 1), (6, 1)):
        objective.loss(*batch, step, 10)
        assert student.initialized == expected
        assert student.phase.draw == step + 1
    resumed = Student()
    QatObjective(resumed, QatSchedule(delay=0.5), **UNTAUGHT).loss(*batch, 5, 10)
    assert resumed.initialized == 1


def test_estimated_parameters_have_a_rate_of_their_own_and_do_not_decay():
    student = Student()
    groups = QatObjective(student, QatSchedule(), quantizer_rate=0.1, **UNTAUGHT).parameter_groups(0.01)
    found = [
        ({id(p) for p in group["params"]}, group["weight_decay"], group.get("rate", 1.0)) for group in groups
    ]
    assert found == [
        ({id(student.weight)}, 0.01, 1.0),
        ({id(student.bias)}, 0.0, 1.0),
        ({id(student.scale)}, 0.0, 0.1),
    ]
