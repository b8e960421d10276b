"""The closed-form first fill."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restorepix import guide
from restorepix.models.fill import halve, pull_push


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_known_pixels_stay_and_the_hole_stays_within_their_range(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator) * 2 - 1
    mask = (torch.rand(2, 1, height, width, generator=generator) < 0.5).float()
    filled = pull_push(image, mask)
    known = (mask == 0).expand_as(image)
    assert torch.allclose(filled[known], image[known], atol=1e-6)
    for sample in range(2):
        if mask[sample].min() == 0:
            inside = image[sample][:, mask[sample, 0] == 0]
            low, high = inside.min(), inside.max()
            assert filled[sample].min() >= low - 1e-5
            assert filled[sample].max() <= high + 1e-5


def test_a_constant_picture_is_restored_exactly():
    mask = torch.zeros(1, 1, 33, 47)
    mask[..., 5:30, 8:40] = 1
    image = torch.full((1, 3, 33, 47), 0.25) * (1 - mask)
    assert (pull_push(image, mask) - 0.25).abs().max() < 1e-6


def test_what_lies_in_the_hole_is_ignored():
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:20, 8:20] = 1
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(pull_push(image, mask), pull_push(image + 9 * mask, mask))


def test_nothing_known_gives_zero():
    assert pull_push(torch.rand(1, 3, 9, 7), torch.ones(1, 1, 9, 7)).abs().max() == 0


def test_a_gradient_is_continued_nearly_linearly():
    """More sweeps come nearer to the harmonic fill, which keeps a linear ramp."""
    ramp = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64).contiguous()
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 21:38] = 1
    errors = [float((pull_push(ramp, mask, sweeps) - ramp).abs().max()) for sweeps in (0, 2, 8)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    assert (
        pull_push(torch.rand(1, 3, 8, 8, dtype=dtype), torch.ones(1, 1, 8, 8).to(dtype)).dtype
        == dtype
    )


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**16))
@settings(deadline=None, max_examples=30)
def test_halving_agrees_with_what_guides_do(rows, columns, seed):
    random = torch.Generator().manual_seed(seed)
    image = torch.rand(3, 2 * rows, 2 * columns, generator=random)
    mask = (torch.rand(2 * rows, 2 * columns, generator=random) < 0.6).float()
    small, hole = halve(image[None], mask[None, None])
    expected, expected_hole = guide.halve(image.permute(1, 2, 0).numpy(), mask.numpy() > 0)
    torch.testing.assert_close(small[0].permute(1, 2, 0), torch.from_numpy(expected))
    assert torch.equal(hole[0, 0] > 0, torch.from_numpy(expected_hole))
