from __future__ import annotations

import pytest
import torch

from pipeline.errors import PipelineError
from stages.training.augment import crop_flip


def window(image: torch.Tensor, top: int, left: int, flip: bool) -> torch.Tensor:
    cut = image[:, top : top + 8, left : left + 16]
    return cut.flip(-1) if flip else cut


def test_every_image_is_one_of_the_shifted_or_mirrored_ones():
    x = torch.rand(64, 2, 8, 16, generator=torch.Generator().manual_seed(0))
    y = crop_flip(x, torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(x, (2, 2, 1, 1))
    seen = set()
    for i in range(len(x)):
        matches = [
            (top, left, flip)
            for top in range(3)
            for left in range(5)
            for flip in (False, True)
            if torch.equal(y[i], window(padded[i], top, left, flip))
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 15  # of 30


def test_the_generator_alone_decides():
    x = torch.rand(8, 1, 8, 8)
    first, second, other = (crop_flip(x, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_a_part_of_a_batch_moves_as_it_does_in_the_whole():
    x = torch.rand(7, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = crop_flip(x, torch.Generator().manual_seed(4))
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    parts = [crop_flip(x[:3], generators[0], 0, 7), crop_flip(x[3:], generators[1], 3, 7)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(*(torch.rand(2, generator=each) for each in generators))


def test_what_are_no_images_is_refused():
    with pytest.raises(PipelineError, match=r"moves images .* samples are \(49, 10\)(.|\n)*augment=none"):
        crop_flip(torch.zeros(2, 49, 10), torch.Generator())
