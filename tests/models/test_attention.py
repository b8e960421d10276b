"""Contextual attention: the production form equals the dense reference, and both are right."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restorepix.models.attention import attend_dense, attend_hole, extract_patches, find_cells

SCALE = torch.tensor(10.0, dtype=torch.float64)


def random_case(seed: int, batch: int = 2, height: int = 12, width: int = 16):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, 3, height, width, generator=generator, dtype=torch.float64)
    match = torch.randn(batch, 2, height, width, generator=generator, dtype=torch.float64)
    mask = torch.zeros(batch, 1, height, width, dtype=torch.float64)
    for index in range(batch):
        top, left = torch.randint(0, 7, (2,), generator=generator).tolist()
        tall, wide = torch.randint(1, 6, (2,), generator=generator).tolist()
        mask[index, :, top : top + tall, left : left + wide] = 1
    return features, match, mask


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 16, 256]))
def test_hole_only_equals_dense_for_any_block_and_per_sample_masks(seed, block):
    features, match, mask = random_case(seed)
    expected = attend_dense(features, match, mask, SCALE)
    actual = attend_hole(features, match, mask, SCALE, block)
    assert (actual - expected).abs().max() < 1e-10
    assert not torch.equal(actual, features)


def test_known_features_pass_unchanged():
    features, match, mask = random_case(3)
    actual = attend_hole(features, match, mask, SCALE)
    known = (mask == 0).expand_as(features)
    assert torch.equal(actual[known], features[known])


def test_gradients_are_exact():
    features, match, mask = random_case(1, batch=1, height=6, width=8)
    features.requires_grad_()
    match.requires_grad_()
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)

    def attend(features, match, scale):
        return attend_hole(features, match, mask, scale, block=4)

    assert torch.autograd.gradcheck(attend, (features, match, scale))


@pytest.mark.parametrize("attend", [attend_dense, attend_hole])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_to_fill_and_nothing_to_copy_from_return_the_features(attend, value):
    features, match, _ = random_case(5)
    mask = torch.full((2, 1, 12, 16), value, dtype=torch.float64)
    assert torch.equal(attend(features, match, mask, SCALE), features)


def test_one_hopeless_sample_does_not_touch_the_others():
    features, match, mask = random_case(7)
    alone = attend_hole(features[:1], match[:1], mask[:1], SCALE)
    mask[1] = 1
    both = attend_hole(features, match, mask, SCALE)
    assert torch.allclose(both[:1], alone, atol=1e-12)
    assert torch.equal(both[1], features[1])
    assert torch.isfinite(both).all()


def test_a_shifted_copy_of_the_background_is_found():
    """With sharp softmax the hole takes exactly the block its queries resemble."""
    generator = torch.Generator().manual_seed(0)
    match = torch.randn(1, 8, 32, 32, generator=generator, dtype=torch.float64)
    features = torch.randn(1, 4, 32, 32, generator=generator, dtype=torch.float64)
    match[..., 4:16, 4:16] = match[..., 18:30, 18:30]
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    mask[..., 8:12, 8:12] = 1
    scale = torch.tensor(400.0, dtype=torch.float64)
    filled = attend_hole(features, match, mask, scale)
    assert (filled[..., 8:12, 8:12] - features[..., 22:26, 22:26]).abs().max() < 1e-6


def test_weights_over_valid_cells_sum_to_one():
    """Constant features stay constant only if the weights sum to one and overlaps are counted."""
    _, match, mask = random_case(2)
    constant = torch.full((2, 3, 12, 16), 0.7, dtype=torch.float64)
    assert (attend_hole(constant, match, mask, SCALE) - 0.7).abs().max() < 1e-12


def test_a_cell_is_needed_exactly_if_its_footprint_touches_the_hole():
    mask = torch.zeros(1, 1, 8, 8)
    mask[0, 0, 3, 4] = 1
    need, valid = find_cells(mask)
    expected = {
        (row, column)
        for row in range(4)
        for column in range(4)
        if 2 * row - 1 <= 3 <= 2 * row + 2 and 2 * column - 1 <= 4 <= 2 * column + 2
    }
    found = {divmod(int(cell), 4) for cell in need[0].nonzero()}
    assert found == expected == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert torch.equal(valid, ~need)


def test_scores_have_the_size_of_the_published_example():
    """64 channels at 64 x 64, 3x3 patches at every second cell: 1,024 keys of 576 numbers."""
    matches, values = extract_patches(torch.zeros(1, 64, 64, 64), torch.randn(1, 64, 64, 64))
    assert matches.shape == (1, 1024, 576)
    assert values.shape == (1, 1024, 1024)
    assert torch.allclose(matches.norm(dim=-1), torch.ones(1, 1024), atol=1e-5)


def test_memory_grows_with_hole_cells_not_with_the_square():
    """The largest tensor of scores is one block by all keys, whatever the hole."""
    seen: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if "softmax" in str(function):
                seen.append(result.numel())
            return result

    features = torch.randn(1, 2, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    with torch.no_grad(), Watch():
        attend_hole(features, features, mask, torch.tensor(10.0), block=64)
    cells = int(find_cells(mask)[0].sum())
    assert max(seen) == 64 * 1024
    assert len(seen) == math.ceil(cells / 64)
