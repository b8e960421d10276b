"""The adversarial phase: the critic learns to tell, judges the hole alone, pulls as told."""

import pytest
import torch

from training.adversarial import (
    HoleCritic,
    blend_gradients,
    critic_loss,
    draw_shift,
    generator_loss,
    hole_mean,
)

CHANNELS = (8, 8, 8, 8)


def draw_pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise with its middle painted flat: (2, 3, 64, 64) twice and the mask."""
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    return torch.where(mask > 0, torch.zeros_like(image), image), image, mask


def test_the_critic_learns_to_tell_a_flat_fill_from_noise():
    torch.manual_seed(1)
    critic = HoleCritic(CHANNELS)
    optimizer = torch.optim.Adam(critic.parameters(), 5e-3, betas=(0.5, 0.99))
    losses = []
    for _ in range(40):
        loss = critic_loss(critic, *draw_pair())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert losses[-1] < 0.5


def test_only_the_hole_is_judged():
    torch.manual_seed(2)
    values = torch.rand(2, 1, 8, 8)
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, :, :8, :8] = 1  # one place; the second sample has no hole
    assert hole_mean(values, mask).item() == pytest.approx(values[0, 0, 0, 0].item() / 2)
    changed = values.clone()
    changed[:, :, 1:] = 9
    assert hole_mean(changed, mask) == hole_mean(values, mask)


def test_the_generator_is_drawn_towards_the_features_of_the_photograph():
    torch.manual_seed(3)
    critic = HoleCritic(CHANNELS).eval()
    painted, image, mask = draw_pair()
    plain = generator_loss(critic, image, image, mask, 0.0)
    assert generator_loss(critic, image, image, mask, 5.0).item() == pytest.approx(plain.item())
    far = generator_loss(critic, painted, image, mask, 5.0)
    assert far > generator_loss(critic, painted, image, mask, 0.0)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_pull_has_the_wanted_share_in_every_sample(share):
    torch.manual_seed(4)
    first, second = (
        torch.randn(2, 3, 8, 8),
        torch.randn(2, 3, 8, 8) * torch.tensor([9.0, 0.1]).view(2, 1, 1, 1),
    )
    added = blend_gradients(first, second, share) - first
    for sample in range(2):
        ratio = added[sample].norm() / first[sample].norm()
        assert ratio.item() == pytest.approx(share, abs=1e-5)


def test_a_sample_without_a_pull_keeps_its_gradient():
    first = torch.ones(1, 3, 4, 4)
    assert torch.equal(blend_gradients(first, torch.zeros_like(first), 0.5), first)


def test_the_critic_meets_the_grid_at_any_place():
    rng = torch.Generator().manual_seed(4)
    picture = torch.arange(32 * 40).view(1, 1, 32, 40)
    cuts = [picture[draw_shift(picture.shape, rng)] for _ in range(200)]
    assert {cut.shape for cut in cuts} == {(1, 1, 24, 32)}
    corners = {int(cut[0, 0, 0, 0]) for cut in cuts}
    assert {corner // 40 % 8 for corner in corners} == set(range(8))
    assert {corner % 40 % 8 for corner in corners} == set(range(8))
