import pytest

from stages.compression.schedule import PruningSchedule


def test_the_share_rises_as_zhu_and_gupta_have_it():
    schedule = PruningSchedule(begin=0.2, end=0.7, updates=10)
    shares = [schedule.share(step, 100) for step in range(100)]
    assert shares[:21] == [0.0] * 21
    assert shares[45] == pytest.approx(1.0 - 0.5**3)  # half way, eq. 1
    assert shares[70:] == [1.0] * 30
    assert shares == sorted(shares)


def test_masks_are_chosen_so_often_and_a_last_time_at_the_end():
    schedule = PruningSchedule(begin=0.2, end=0.7, updates=10)
    assert [step for step in range(100) if schedule.updates_at(step, 100)] == list(range(20, 71, 5))


def test_one_shot_prunes_once():
    schedule = PruningSchedule(begin=0.0, end=0.0)
    assert [step for step in range(50) if schedule.updates_at(step, 50)] == [0]
    assert schedule.share(0, 50) == 1.0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"begin": 0.5, "end": 0.4}, r"begin=0.5, end=0.4: must ascend in \[0, 1\)"),
        ({"end": 1.0}, "left is trained from end on"),
        ({"updates": 0}, "updates=0: must be at least 1"),
    ],
)
def test_settings_are_checked(settings, text):
    with pytest.raises(ValueError, match=text):
        PruningSchedule(**settings)
