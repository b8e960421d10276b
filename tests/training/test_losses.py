"""Reconstruction losses against sums by hand."""

import math

import pytest
import torch
from skimage.metrics import structural_similarity

from training.losses import hole_dissimilarity, hole_l1, hole_log_mse, hole_texture


def case():
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, 0, 0, 0] = 1  # one pixel
    mask[1, 0, :, :2] = 1  # eight pixels
    target = torch.zeros(2, 3, 4, 4)
    predicted = torch.full((2, 3, 4, 4), 0.5)
    predicted[1] = 0.25
    return predicted, target, mask


def test_each_hole_weighs_the_same_whatever_its_area():
    assert hole_l1(*case()).item() == pytest.approx((0.5 + 0.25) / 2)


def test_log_mse_is_the_mean_of_logarithms():
    expected = (math.log(0.25 + 1e-4) + math.log(0.0625 + 1e-4)) / 2
    assert hole_log_mse(*case()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [hole_l1, hole_log_mse, hole_dissimilarity])
def test_no_gradient_outside_the_hole(loss):
    predicted, target, mask = case()
    predicted.requires_grad_()
    loss(predicted, target, mask).backward()
    assert predicted.grad is not None
    outside = (mask == 0).expand_as(predicted)
    assert predicted.grad[outside].abs().max() == 0
    assert predicted.grad[~outside].abs().min() > 0


@pytest.mark.parametrize("loss", [hole_l1, hole_log_mse, hole_dissimilarity])
def test_a_sample_without_a_hole_is_finite(loss):
    predicted, target, _ = case()
    assert torch.isfinite(loss(predicted, target, torch.zeros(2, 1, 4, 4)))


def test_dissimilarity_agrees_with_scikit_image():
    torch.manual_seed(1)
    target = torch.rand(2, 3, 48, 40) * 2 - 1
    predicted = (target + 0.3 * torch.randn_like(target)).clamp(-1, 1)
    mask = torch.zeros(2, 1, 48, 40)
    mask[0, :, 9:30, 7:25] = 1
    mask[1, :, 16:18, 6:34] = 1
    painted = torch.where(mask > 0, predicted, target)
    expected = []
    for truth, result, hole in zip(target, painted, mask, strict=True):
        _, similarity = structural_similarity(
            *((255 / 2 * (x + 1)).permute(1, 2, 0).double().numpy() for x in (truth, result)),
            channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        expected.append(1 - similarity[hole[0].numpy() > 0].mean())
    found = hole_dissimilarity(predicted, target, mask).item()
    assert found == pytest.approx(sum(expected) / 2, abs=1e-4)


def test_texture_compares_amounts_of_detail_and_not_places():
    torch.manual_seed(2)
    target = torch.rand(2, 3, 64, 64) * 2 - 1
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    assert hole_texture(target, target, mask).item() == 0
    other = torch.rand(2, 3, 64, 64) * 2 - 1
    assert hole_texture(other, target, mask).item() < 0.1
    flat = torch.zeros_like(target)
    assert 0.7 < hole_texture(flat, target, mask).item() <= 1
    assert hole_texture(2 * target, target, mask).item() > 0.5
    assert hole_texture(flat, target, torch.zeros_like(mask)).item() == 0


def test_texture_asks_nothing_of_known_pixels():
    torch.manual_seed(3)
    target = torch.rand(1, 3, 64, 64) * 2 - 1
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 8:30] = 1
    predicted = torch.rand(1, 3, 64, 64).requires_grad_()
    hole_texture(predicted, target, mask).backward()
    assert predicted.grad is not None
    assert predicted.grad[(mask == 0).expand_as(predicted)].abs().max() == 0
    assert predicted.grad.abs().sum() > 0
