"""Discounts, penalties, adversaries and overlaps against values by hand."""

import pytest
import torch

from training.lab.critics import (
    ContextCritic,
    ConvCritic,
    DeepFillCritics,
    JointCritic,
    PatchCritic,
    crop_around_hole,
)
from training.lab.losses import (
    adversarial_loss,
    critic_loss,
    discount_by_distance,
    discount_published,
    discounted_l1,
    feature_loss,
    gradient_penalty,
    known_l1,
    overlap_weights,
    shrink_hole,
    style_loss,
    total_variation,
    weighted_l2,
)


def box_mask(side=32, top=8, left=8, height=16, width=16, batch=1):
    mask = torch.zeros(batch, 1, side, side)
    mask[..., top : top + height, left : left + width] = 1
    return mask


def test_the_published_discount_has_its_corner_values_and_is_lopsided():
    weights = discount_published(128, 128, 0.9)
    assert weights[0, 0] == 1
    assert weights[127, 127].item() == pytest.approx(0.9)
    assert weights[64, 64].item() == pytest.approx(0.001179, abs=1e-6)
    assert discount_published(128, 128, 0.99)[64, 64].item() == pytest.approx(0.5256, abs=1e-4)
    assert not torch.equal(weights, weights.flip(0))


def test_the_discount_by_distance_is_symmetric_and_takes_any_shape():
    weights = discount_by_distance(box_mask(64, 16, 16, 32, 32), 0.9)[0, 0]
    assert torch.equal(weights, weights.flip(0))
    assert torch.equal(weights, weights.flip(1))
    assert torch.equal(weights, weights.T)
    assert weights[16, 16] == 1
    assert weights[31, 31].item() == pytest.approx(0.9**15)
    assert weights[0].abs().max() == 0
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, 0, 2:14, 5] = 1
    mask[1] = 1  # nothing known at all
    weights = discount_by_distance(mask, 0.5)
    assert torch.equal(weights[0], mask[0])
    assert weights[1].abs().max() == 0


@pytest.mark.parametrize("form", ["published", "distance", "none"])
def test_discounted_l1_has_no_gradient_outside_the_hole(form):
    mask = box_mask(batch=2)
    predicted = torch.rand(2, 3, 32, 32, requires_grad=True)
    loss = discounted_l1(predicted, torch.zeros(2, 3, 32, 32), mask, gamma=0.9, form=form)
    loss.backward()
    assert predicted.grad is not None
    inside = mask.expand(2, 3, 32, 32) > 0
    assert predicted.grad[~inside].abs().max() == 0
    assert (predicted.grad[inside] > 0).all()


def test_plain_l1_in_the_hole_and_outside_it():
    mask = box_mask()
    predicted = 0.5 * mask.expand(1, 3, 32, 32)
    zero = torch.zeros_like(predicted)
    assert discounted_l1(predicted, zero, mask, gamma=0.9, form="none").item() == pytest.approx(0.5)
    assert known_l1(predicted, zero, mask).item() == 0
    assert known_l1(predicted + 1, zero, mask).item() == pytest.approx(1)


def test_the_penalty_is_zero_for_a_critic_of_slope_one_inside_the_mask():
    mask = box_mask(batch=2)
    area = mask[0].sum()

    def critic(image):
        return (image * mask).flatten(1).sum(1) / (3 * area).sqrt()

    real, fake = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    assert gradient_penalty(critic, real, fake, mask).item() == pytest.approx(0, abs=1e-11)


def test_the_penalty_ignores_gradients_outside_the_mask():
    mask = box_mask(batch=2)
    real, fake = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)

    def penalise(outside):
        torch.manual_seed(0)
        weights = 0.3 * mask + outside * (1 - mask)
        return gradient_penalty(lambda x: (x * weights).flatten(1).sum(1), real, fake, mask)

    assert penalise(0.0).item() > 0
    assert penalise(0.0) == penalise(5.0)


def test_the_penalty_trains_the_critic_and_not_the_pictures():
    critic = ConvCritic((4, 8), 16)
    fake = torch.rand(2, 3, 16, 16, requires_grad=True)
    gradient_penalty(critic, torch.rand(2, 3, 16, 16), fake, torch.ones(2, 1, 16, 16)).backward()
    assert fake.grad is None
    assert critic.score[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["wgan", "standard", "lsgan"])
def test_adversaries_pull_in_opposite_directions(kind):
    real = torch.zeros(3, 1, requires_grad=True)
    fake = torch.zeros(3, 1, requires_grad=True)
    critic_loss(real, fake, kind).backward()
    assert (real.grad <= 0).all()
    before = fake.grad.clone()
    fake.grad = None
    adversarial_loss(fake, kind).backward()
    assert (fake.grad < 0).all()
    assert (before >= 0).all()


def test_variation_features_and_style_are_zero_where_nothing_differs():
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert total_variation(flat) == 0
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    assert total_variation(ramp).item() == pytest.approx(1)
    maps = [torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)]
    assert feature_loss(maps, maps) == 0
    assert style_loss(maps, [level.flip(-1) for level in maps]).item() == pytest.approx(0, abs=1e-6)
    assert feature_loss(maps, [level.flip(-1) for level in maps]) > 0


def test_the_rim_of_an_overlap_gets_ten_times_the_gradient():
    region = box_mask()
    weights = overlap_weights(region, rim_px=4, rim_weight=10)
    predicted = torch.zeros(1, 3, 32, 32, requires_grad=True)
    weighted_l2(predicted, torch.ones(1, 3, 32, 32), weights).backward()
    gradient = predicted.grad[0, 0]
    assert gradient[0].abs().max() == 0
    assert (gradient[8, 8] / gradient[16, 16]).item() == pytest.approx(10)
    assert (gradient[11, 16] / gradient[12, 16]).item() == pytest.approx(10)
    assert shrink_hole(region, 4).sum() == 64
    assert torch.equal(shrink_hole(region, 0), region)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_critics_have_their_published_sizes():
    with torch.device("meta"):
        critics, joint = DeepFillCritics(), JointCritic()
        assert count(critics.local) == 4_339_329
        assert count(critics.whole) == 2_733_441
        assert joint(torch.zeros(2, 3, 256, 256), torch.zeros(2, 3, 128, 128)).shape == (2, 1)
        assert ContextCritic()(torch.zeros(2, 3, 64, 64)).shape == (2, 1)
        assert ContextCritic(128)(torch.zeros(2, 3, 128, 128)).shape == (2, 1)
        assert PatchCritic(8)(torch.zeros(2, 3, 64, 72)).shape == (2, 1, 8, 9)
    with pytest.raises(ValueError, match="halvings"):
        ConvCritic((4, 4), 30)
    with pytest.raises(ValueError, match="64 or 128"):
        ContextCritic(100)


def test_local_crops_follow_each_hole_and_stay_inside():
    image = torch.arange(2 * 32 * 32.0).reshape(2, 1, 32, 32)
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, 0, 10:14, 20:22] = 1
    mask[1, 0, 0, 31] = 1
    crops = crop_around_hole(image, mask, 16)
    assert torch.equal(crops[0], image[0, :, 4:20, 13:29])
    assert torch.equal(crops[1], image[1, :, :16, 16:])
    assert crop_around_hole(image, mask * 0, 16).shape == (2, 1, 16, 16)
