"""Reconstruction losses against sums by hand."""

import math

import pytest
import torch

from training.losses import hole_l1, hole_log_mse


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


@pytest.mark.parametrize("loss", [hole_l1, hole_log_mse])
def test_no_gradient_outside_the_hole(loss):
    predicted, target, mask = case()
    predicted.requires_grad_()
    loss(predicted, target, mask).backward()
    assert predicted.grad is not None
    outside = (mask == 0).expand_as(predicted)
    assert predicted.grad[outside].abs().max() == 0
    assert predicted.grad[~outside].abs().min() > 0


@pytest.mark.parametrize("loss", [hole_l1, hole_log_mse])
def test_a_sample_without_a_hole_is_finite(loss):
    predicted, target, _ = case()
    assert torch.isfinite(loss(predicted, target, torch.zeros(2, 1, 4, 4)))
