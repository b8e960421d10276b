"""Contextual attention as published: parity with plain sums, masking, propagation, pictures."""

import dataclasses

import numpy as np
import pytest
import torch

from restorepix.models.lab.flow import build_wheel, draw_flow
from restorepix.models.lab.patch_attention import (
    AttentionOptions,
    contextual_attention,
    cut_patches,
    find_valid_keys,
    propagate,
    propagate_wrapped,
    weigh_keys,
)

DOUBLE = torch.float64


def random_case(seed: int = 0, side: int = 16, channels: int = 3, batch: int = 2):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, channels, side, side, generator=generator, dtype=DOUBLE)
    mask = torch.zeros(batch, 1, side, side, dtype=DOUBLE)
    mask[0, :, 4:8, 6:10] = 1
    mask[-1, :, 8:14, 2:6] = 1
    return features, mask


def attend_by_hand(features, mask, fusion):
    """One sample, corrected masking, by loops over cells."""
    channels, height, width = features.shape
    rows, columns = height // 2, width // 2
    half = torch.nn.functional.pad(features[:, ::2, ::2], (1, 1, 1, 1))
    framed = torch.nn.functional.pad(features, (1, 1, 1, 1), mode="replicate")
    hole = torch.nn.functional.max_pool2d(mask[None], 2)[0, 0]
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    patch = {(r, c): half[:, r : r + 3, c : c + 3].flatten() for r, c in cells}
    valid = {(r, c): not hole[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].any() for r, c in cells}
    raw = {
        (p, q): patch[p] @ (patch[q] / patch[q].norm().clamp_min(1e-4))
        for p in cells
        for q in cells
    }
    reach = range(-(fusion // 2), fusion // 2 + 1)
    total = torch.zeros(channels, height + 2, width + 2, dtype=DOUBLE)
    count = torch.zeros(height + 2, width + 2, dtype=DOUBLE)
    keys = [q for q in cells if valid[q]]
    for p in cells:
        scores = torch.stack(
            [
                sum(
                    raw.get(
                        ((p[0] + i, p[1] + j), (q[0] + i, q[1] + j)), torch.zeros((), dtype=DOUBLE)
                    )
                    for i in reach
                    for j in reach
                )
                for q in keys
            ]
        )
        weights = torch.softmax(10 * scores, 0)
        block = sum(
            weight * framed[:, 2 * r : 2 * r + 4, 2 * c : 2 * c + 4]
            for weight, (r, c) in zip(weights, keys, strict=True)
        )
        total[:, 2 * p[0] : 2 * p[0] + 4, 2 * p[1] : 2 * p[1] + 4] += block
        count[2 * p[0] : 2 * p[0] + 4, 2 * p[1] : 2 * p[1] + 4] += 1
    return (total / count)[:, 1:-1, 1:-1]


@pytest.mark.parametrize("fusion", [1, 3])
def test_it_equals_plain_loops(fusion):
    features, mask = random_case(side=12)
    options = AttentionOptions(fusion=fusion)
    actual = contextual_attention(features, features, mask, options).features
    for sample in range(2):
        expected = attend_by_hand(features[sample], mask[sample], fusion)
        assert (actual[sample] - expected).abs().max() < 1e-12


def test_a_hole_filled_with_a_shifted_block_of_background_is_found_exactly():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 16, 48, 48, generator=generator, dtype=DOUBLE)
    features[..., 8:24, 8:24] = features[..., 26:42, 26:42]  # even shift, margin of two cells
    mask = torch.zeros(1, 1, 48, 48, dtype=DOUBLE)
    mask[..., 12:20, 12:20] = 1
    options = AttentionOptions(fusion=1)
    found = contextual_attention(features, features, mask, options)
    hole = found.features[..., 12:20, 12:20]
    assert (hole - features[..., 30:38, 30:38]).abs().max() < 1e-6
    assert (found.offsets[0, :, 6:10, 6:10] == 9).all()
    # The cosine that the paper prints is too flat at scale 10, and sharp at 100.
    cosine = dataclasses.replace(options, cosine=True)
    blurred = contextual_attention(features, features, mask, cosine).features
    assert (blurred[..., 12:20, 12:20] - features[..., 30:38, 30:38]).abs().max() > 0.1
    sharp = dataclasses.replace(cosine, scale=200.0)
    exact = contextual_attention(features, features, mask, sharp).features
    assert (exact[..., 12:20, 12:20] - features[..., 30:38, 30:38]).abs().max() < 1e-6


def test_strips_change_nothing_but_memory():
    features, mask = random_case(2)
    for fusion, stride in ((1, 1), (3, 1), (5, 1), (3, 2)):
        options = AttentionOptions(fusion=fusion, key_stride=stride)
        whole = contextual_attention(features, features, mask, options)
        for strip in (1, 3, 8):
            part = contextual_attention(
                features, features, mask, dataclasses.replace(options, strip=strip)
            )
            assert (part.features - whole.features).abs().max() < 1e-12
            assert torch.equal(part.offsets, whole.offsets)


def test_key_stride_one_is_dense_and_two_has_a_quarter_of_the_keys():
    features, mask = random_case(3)
    assert find_valid_keys(mask, AttentionOptions()).shape == (2, 64)
    options = AttentionOptions(key_stride=2, fusion=1)
    assert find_valid_keys(mask, options).shape == (2, 16)
    offsets = contextual_attention(features, features, mask, options).offsets
    grid = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij"))
    assert ((offsets + grid) % 2 == 0).all()


def test_weights_over_valid_keys_sum_to_one_only_when_masked_with_minus_infinity():
    generator = torch.Generator().manual_seed(4)
    scores = 0.1 * torch.randn(2, 7, 12, generator=generator, dtype=DOUBLE)
    valid = torch.rand(2, 1, 12, generator=generator) > 0.4
    invalid = ~valid.expand_as(scores)
    corrected = weigh_keys(scores, valid, AttentionOptions())
    assert (corrected.sum(-1) - 1).abs().max() < 1e-12
    assert corrected[invalid].abs().max() == 0
    published = weigh_keys(scores, valid, AttentionOptions(masking="published"))
    assert published[invalid].abs().max() == 0
    assert published.sum(-1).max() < 0.95


def test_constant_features_stay_constant():
    """Only if weights sum to one, overlaps are counted truly and borders carry no padding."""
    _, mask = random_case(5)
    ones = torch.ones(2, 3, 16, 16, dtype=DOUBLE)
    corrected = contextual_attention(ones, ones, mask, AttentionOptions()).features
    assert (corrected - 1).abs().max() < 1e-12
    published = AttentionOptions(masking="published")
    assert contextual_attention(ones, ones, mask, published).features[0, 0, 0, 0] < 0.5


def test_unknown_keys_are_never_copied():
    features, mask = random_case(6)
    changed = features.clone()
    # A value patch of a valid key has no pixel under the hole.
    changed[(mask > 0).expand_as(features)] += 100
    options = AttentionOptions(fusion=1)
    plain = contextual_attention(features, features, mask, options).features
    other = contextual_attention(features, changed, mask, options).features
    assert torch.equal(plain, other)


@pytest.mark.parametrize("masking", ["corrected", "published"])
def test_no_valid_key_gives_no_nan_and_corrected_returns_the_features(masking):
    features, mask = random_case(7)
    mask[1] = 1
    found = contextual_attention(features, features, mask, AttentionOptions(masking=masking))
    assert torch.isfinite(found.features).all()
    if masking == "corrected":
        assert torch.equal(found.features[1], features[1])
    alone = contextual_attention(
        features[:1], features[:1], mask[:1], AttentionOptions(masking=masking)
    )
    assert (found.features[:1] - alone.features).abs().max() < 1e-12


def test_a_scratch_of_one_pixel_is_lost_by_published_masking_alone():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5] = 1
    assert find_valid_keys(mask, AttentionOptions(masking="published")).all()
    assert not find_valid_keys(mask, AttentionOptions()).all()


@pytest.mark.parametrize("size", [3, 5])
def test_propagation_is_the_sum_of_diagonal_shifts(size):
    generator = torch.Generator().manual_seed(8)
    scores = torch.randn(1, 5, 6, 5, 6, generator=generator, dtype=DOUBLE)
    reach = size // 2
    padded = torch.nn.functional.pad(scores, (reach, reach) * 4)
    rows, columns = slice(reach, reach + 5), slice(reach, reach + 6)
    expected = torch.zeros_like(scores)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            moved = padded.roll((-i, -j, -i, -j), (1, 2, 3, 4))
            expected += moved[:, rows, columns, rows, columns]
    assert (propagate(scores, size) - expected).abs().max() < 1e-12
    turned = propagate(scores.permute(0, 2, 1, 4, 3), size).permute(0, 2, 1, 4, 3)
    assert (turned - expected).abs().max() < 1e-12
    assert torch.equal(propagate(scores, 1), scores)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_weighted_windows_give_the_propagated_scores_away_from_borders(size):
    generator = torch.Generator().manual_seed(11)
    features = torch.randn(2, 3, 10, 11, generator=generator, dtype=DOUBLE)
    small, large = cut_patches(features), cut_patches(features, size)
    grid = (2, 10, 11, 10, 11)
    scores = (small @ small.transpose(1, 2)).reshape(grid)
    windows = (large @ large.transpose(1, 2)).reshape(grid)
    reach = size // 2
    rows, columns = slice(reach, 10 - reach), slice(reach, 11 - reach)
    gap = (windows - propagate(scores, size))[:, rows, columns, rows, columns]
    assert gap.abs().max() < 1e-11


@pytest.mark.parametrize("size", [3, 5])
def test_windows_choose_mostly_what_exact_propagation_chooses(size):
    generator = torch.Generator().manual_seed(12)
    noise = torch.randn(4, 8, 32, 32, generator=generator, dtype=DOUBLE)
    features = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    mask = torch.zeros(4, 1, 32, 32, dtype=DOUBLE)
    mask[..., 12:20, 12:20] = 1
    exact = AttentionOptions(fusion=size)
    window = dataclasses.replace(exact, propagation="window")
    hole = mask[:, 0, ::2, ::2] > 0
    chosen = [
        contextual_attention(features, features, mask, options).offsets.movedim(1, -1)[hole]
        for options in (exact, window)
    ]
    # They normalise keys differently; one of 256 would agree by chance.
    assert (chosen[0] == chosen[1]).all(-1).float().mean() > 0.6


def test_published_propagation_differs_only_where_rows_end():
    generator = torch.Generator().manual_seed(9)
    scores = torch.randn(1, 6, 6, 6, 6, generator=generator, dtype=DOUBLE)
    plain, wrapped = propagate(scores, 3), propagate_wrapped(scores, 3)
    inside = slice(1, -1)
    assert torch.allclose(
        plain[:, inside, inside, inside, inside], wrapped[:, inside, inside, inside, inside]
    )
    assert not torch.allclose(plain, wrapped)
    # By its definition: a convolution of the flattened matrix with a 3x3 identity, twice.
    kernel = torch.eye(3, dtype=DOUBLE)[None, None]
    once = torch.nn.functional.conv2d(scores.reshape(1, 1, 36, 36), kernel, padding=1)
    swapped = once.reshape(1, 6, 6, 6, 6).permute(0, 2, 1, 4, 3).reshape(1, 1, 36, 36)
    twice = torch.nn.functional.conv2d(swapped, kernel, padding=1)
    expected = twice.reshape(1, 6, 6, 6, 6).permute(0, 2, 1, 4, 3)
    assert torch.allclose(wrapped, expected)


@pytest.mark.parametrize("propagation", ["exact", "window"])
def test_gradients_are_exact(propagation):
    features, mask = random_case(10, side=8, channels=2)
    features.requires_grad_()

    def attend(features):
        options = AttentionOptions(scale=2.0, propagation=propagation)
        return contextual_attention(features, features, mask, options).features

    assert torch.autograd.gradcheck(attend, (features,))


def test_the_published_example_has_its_sizes():
    """64 channels at 64 x 64: 1,024 keys of 3x3 patches, weights that sum to one."""
    features = torch.randn(1, 64, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    found = contextual_attention(features, features, mask, AttentionOptions())
    assert found.features.shape == (1, 64, 64, 64)
    assert found.offsets.shape == (1, 2, 32, 32)


@pytest.mark.parametrize(
    "bad",
    [
        {"fusion": 2},
        {"fusion": 0},
        {"key_stride": 0},
        {"masking": "none"},
        {"wrap": True, "strip": 2},
        {"propagation": "flood"},
        {"wrap": True, "propagation": "window"},
    ],
)
def test_options_that_mean_nothing_are_refused(bad):
    with pytest.raises(ValueError):
        AttentionOptions(**bad)


def test_the_wheel_and_flow_pictures():
    assert build_wheel().shape == (55, 3)
    zero = draw_flow(np.zeros((2, 4, 5), np.int64))
    assert (zero == 255).all()
    shift = np.zeros((2, 4, 5), np.int64)
    shift[0], shift[1] = 3, -2
    one = draw_flow(shift)
    assert (one == one[0, 0]).all()
    assert not (one == 255).all()
    assert np.array_equal(one, draw_flow(shift))
    assert not np.array_equal(one, draw_flow(-shift))
