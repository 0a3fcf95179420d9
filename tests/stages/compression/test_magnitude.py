import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from stages.compression.magnitude import Magnitude

NAMES = {"a": "conv1", "b": "fc.1", "c": "fc.2"}


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (6, 4, 3, 3), "b": (20, 30), "c": (10, 20)}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


@settings(max_examples=30, deadline=None)
@given(keep=st.floats(0.001, 1.0), share=st.floats(0.0, 1.0), score=st.sampled_from(["magnitude", "lamp"]))
def test_a_budget_of_the_network_is_kept(keep, share, score):
    masks = Magnitude(keep=keep, score=score).masks(weights(), NAMES, share)
    total = sum(w.numel() for w in weights().values())
    kept = sum(int(mask.sum()) for mask in masks.values())
    assert kept == max(1, round(total * (1 - (1 - keep) * share)))


def test_what_goes_is_smaller_than_what_stays():
    masks = Magnitude(keep=0.2).masks(weights(), NAMES, 1.0)
    gone = max(float(w[~masks[key]].abs().max()) for key, w in weights().items())
    assert gone <= min(float(w[masks[key]].abs().min()) for key, w in weights().items())


def test_lamp_is_blind_to_a_layers_scale_and_empties_none():
    """Scores are shares of a layer's own squares: the largest weight of each has 1."""
    scaled = weights()
    scaled["b"] *= 1e-3
    method = Magnitude(keep=0.01, score="lamp")
    for key, mask in method.masks(weights(), NAMES, 1.0).items():
        assert torch.equal(mask, method.masks(scaled, NAMES, 1.0)[key]) and mask.any()
    assert not Magnitude(keep=0.01).masks(scaled, NAMES, 1.0)["b"].any()


def test_layers_have_shares_of_their_own():
    method = Magnitude(keep=0.1, layers={"fc*": 0.5, "fc.2": 1.0})
    masks = method.masks(weights(), NAMES, 1.0)
    assert "c" not in masks  # 1.0: not pruned
    assert int(masks["b"].sum()) == 300 and int(masks["a"].sum()) == round(0.1 * 216)
    assert {
        int(m.sum()) for m in Magnitude(keep=0.25, budget="layer").masks(weights(), NAMES, 1.0).values()
    } == {
        54,
        150,
        50,
    }
    with pytest.raises(PipelineError, match=r"the pattern 'dense' matches no layer.*conv1, fc\.1, fc\.2"):
        Magnitude(layers={"dense": 0.1}).check(NAMES)


def test_a_threshold_is_in_deviations_of_what_is_left():
    w = torch.tensor([[0.0, 1.0, -1.0, 3.0, -3.0]])
    (mask,) = Magnitude(threshold=0.8).masks({"a": w}, NAMES, 1.0).values()
    assert mask.tolist() == [[False, False, False, True, True]]  # the deviation is 2.58


@pytest.mark.parametrize("shape", [(5, 12), (4, 8, 3, 3), (4, 10), (6, 1, 3, 3)])
def test_two_of_four_input_channels_stay(shape):
    w = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    (mask,) = Magnitude(pattern=[2, 4]).masks({"a": w}, NAMES, 1.0).values()
    whole = shape[1] // 4 * 4
    groups = mask[:, :whole].movedim(1, -1).reshape(-1, 4)
    assert (groups.sum(dim=1) == 2).all() and mask[:, whole:].all()
    magnitudes = w[:, :whole].movedim(1, -1).reshape(-1, 4).abs()
    assert (magnitudes.masked_fill(~groups, 9.0).amin(1) >= magnitudes.masked_fill(groups, 0.0).amax(1)).all()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"keep": 0.0}, r"keep=0.0: must be a share of the weights, in \(0, 1\]"),
        ({"layers": {"fc": 1.5}}, "layers.fc=1.5: must be a share"),
        ({"threshold": 0.0}, "threshold=0.0: must be positive, or null"),
        ({"pattern": [5, 4]}, r"pattern=\[5, 4\]: must be \[n, m\]"),
        ({"pattern": [2, 4], "threshold": 1.0}, "one or the other"),
    ],
)
def test_settings_are_checked(settings, text):
    with pytest.raises(ValueError, match=text):
        Magnitude(**settings)
