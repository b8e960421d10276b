"""BYOL: the numbers of the paper, gradient routing, collapse, resuming, transfer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from restorepix.models.encoder import Encoder, EncoderConfig
from training.byol import (
    ByolConfig,
    ByolTrainer,
    CollapseError,
    Views,
    byol_loss,
    export_encoder,
    follow,
    load_encoder_state,
    measure_spread,
    read_recipe,
    target_momentum,
)
from training.detector import read_recipe as read_detector_recipe

SMALL = EncoderConfig(channels=(8, 8, 16, 16), depths=(1, 1, 1, 1))
TINY = ByolConfig(
    steps=40, batch=16, crop_px=32, warmup=2, lr=1e-3, hidden=32, projection=16, bf16=False
)


def draw_views(count: int = 64, seed: int = 0, batch: int = TINY.batch) -> Views:
    """Views of smooth random pictures that differ from each other."""
    rng = np.random.default_rng(seed)
    side = 2 * TINY.crop_px
    rows, columns = np.mgrid[0:side, 0:side] / side
    pictures = [
        127 + 100 * np.sin(rng.uniform(2, 30, 3) * rows[..., None] + rng.uniform(0, 6, 3))
        * np.cos(rng.uniform(2, 30, 3) * columns[..., None] + rng.uniform(0, 6, 3))
        for _ in range(count)
    ]  # fmt: skip
    pixels = torch.from_numpy(np.stack(pictures).astype(np.uint8).reshape(-1))
    index = torch.tensor([[i * side * side * 3, side, side] for i in range(count)])
    return Views(pixels, index, batch, TINY.crop_px, seed)


def test_loss_is_0_for_equal_and_4_for_opposite_directions() -> None:
    vectors = torch.randn(5, 8)
    assert float(byol_loss(vectors, vectors * 7)) == pytest.approx(0, abs=1e-6)
    assert float(byol_loss(vectors, -vectors)) == pytest.approx(4, abs=1e-6)


def test_loss_equals_the_squared_distance_of_unit_vectors() -> None:
    a, b = torch.randn(9, 6), torch.randn(9, 6)
    unit = nn.functional.normalize
    by_hand = (unit(a) - unit(b)).square().sum(1).mean()
    assert float(byol_loss(a, b)) == pytest.approx(float(by_hand), rel=1e-5)


def test_loss_is_symmetric_in_the_views() -> None:
    model = ByolTrainer(TINY, SMALL, torch.device("cpu")).model
    first, second = draw_views().draw(0)
    with torch.no_grad():
        forth, back = model(first, second)[0], model(second, first)[0]
    assert float(forth) == pytest.approx(float(back), rel=1e-5)


def test_momentum_follows_the_cosine() -> None:
    values = [target_momentum(step, 100, 0.996) for step in (0, 50, 100)]
    assert values == pytest.approx([0.996, 0.998, 1.0])


def test_target_moves_by_exactly_the_stated_share() -> None:
    target, online = nn.Linear(2, 2), nn.Linear(2, 2)
    for module, value in ((target, 0.0), (online, 2.0)):
        for parameter in module.parameters():
            nn.init.constant_(parameter, value)
    follow(target, online, 0.9)
    for parameter in target.parameters():
        assert torch.allclose(parameter, torch.full_like(parameter, 0.2))


def test_gradient_reaches_the_online_branch_only() -> None:
    model = ByolTrainer(TINY, SMALL, torch.device("cpu")).model
    model(*draw_views().draw(0))[0].backward()
    assert all(parameter.grad is None for parameter in model.target.parameters())
    assert all(parameter.grad is not None for parameter in model.online.parameters())
    assert all(parameter.grad is not None for parameter in model.predictor.parameters())
    assert not any("predictor" in name for name in model.target.state_dict())


def test_the_target_follows_after_the_step() -> None:
    trainer = ByolTrainer(TINY, SMALL, torch.device("cpu"))
    before = [parameter.clone() for parameter in trainer.model.target.parameters()]
    trainer.take_step(*draw_views().draw(0))
    momentum = target_momentum(0, TINY.steps, TINY.momentum)
    for old, new, online in zip(
        before, trainer.model.target.parameters(), trainer.model.online.parameters(), strict=True
    ):
        assert torch.allclose(new, momentum * old + (1 - momentum) * online, atol=1e-7)


def test_spread_tells_even_directions_from_a_point() -> None:
    torch.manual_seed(0)
    assert measure_spread(torch.randn(4096, 32)) == pytest.approx(1, abs=0.05)
    assert measure_spread(torch.ones(64, 32) + 1e-3 * torch.randn(64, 32)) < 0.01


def test_a_collapse_fails_the_run() -> None:
    config = ByolConfig(**{**TINY.__dict__, "spread_from": 0})
    trainer = ByolTrainer(config, SMALL, torch.device("cpu"))
    nn.init.zeros_(trainer.model.online.projector[3].weight)
    trainer.model.online.projector[3] = nn.Linear(TINY.hidden, TINY.projection)
    nn.init.zeros_(trainer.model.online.projector[3].weight)
    with pytest.raises(CollapseError, match="collapse at step 0"):
        trainer.take_step(*draw_views().draw(0))


def test_learns_without_collapsing() -> None:
    trainer, views = ByolTrainer(TINY, SMALL, torch.device("cpu")), draw_views()
    losses = [trainer.take_step(*views.draw(step)) for step in range(TINY.steps)]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    assert trainer.spread > 0.3


@pytest.mark.slow
def test_500_steps_do_not_collapse_and_would_without_the_predictor() -> None:
    config = ByolConfig(**{**TINY.__dict__, "steps": 500, "spread_from": 1000})
    spreads: list[float] = []
    for predictor in (True, False):
        trainer = ByolTrainer(config, SMALL, torch.device("cpu"), predictor=predictor)
        views = draw_views()
        for step in range(config.steps):
            trainer.take_step(*views.draw(step))
        spreads.append(trainer.spread)
    assert spreads[0] > 0.3 > 3 * spreads[1]  # 0.72 and 0.05 (training/LOG.md)


def test_resuming_equals_going_on(tmp_path: Path) -> None:
    views = draw_views()
    through = ByolTrainer(TINY, SMALL, torch.device("cpu"))
    for step in range(4):
        through.take_step(*views.draw(step))
        if step == 1:
            through.save(tmp_path / "checkpoint")
    resumed = ByolTrainer(TINY, SMALL, torch.device("cpu"))
    resumed.load(tmp_path / "checkpoint")
    for step in range(2, 4):
        resumed.take_step(*views.draw(step))
    for name, tensor in through.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_the_exported_encoder_loads_strictly_and_stays_frozen(tmp_path: Path) -> None:
    trainer = ByolTrainer(TINY, SMALL, torch.device("cpu"))
    trainer.take_step(*draw_views().draw(0))
    export_encoder(trainer, tmp_path / "encoder.safetensors")
    state, config = load_encoder_state(tmp_path / "encoder.safetensors")
    encoder = Encoder(config)
    encoder.load_state_dict(state)
    encoder.requires_grad_(False)
    head = nn.Conv2d(16, 1, 1)
    optimizer = torch.optim.AdamW(head.parameters())
    head(encoder(torch.randn(1, 3, 32, 32))[-1]).mean().backward()
    optimizer.step()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_views_depend_on_seed_and_step_alone_and_differ() -> None:
    first, second = draw_views().draw(3)
    again, _ = draw_views().draw(3)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert first.shape == (TINY.batch, 3, TINY.crop_px, TINY.crop_px)
    assert float(first.min()) >= -1 and float(second.max()) <= 1


@pytest.mark.parametrize("name", ["byol", "byol-full"])
def test_recipes_are_complete(name: str) -> None:
    config, encoder = read_recipe(Path("training/recipes") / f"{name}.toml")
    assert config.batch >= 256 and config.momentum == 0.99
    detector = read_detector_recipe(Path("training/recipes/detector.toml")).detector.encoder
    assert encoder == (detector if name == "byol" else EncoderConfig())
    assert math.isclose(config.min_spread, 0.3)
