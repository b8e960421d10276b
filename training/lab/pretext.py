"""Five ways to pre-train an encoder without labels, and one to leave it random.

All see the same small windows in batches of 128, which BYOL needs: with batches of 16 its batch
normalisation tells samples apart too badly to learn from.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from restorepix.models.encoder import Encoder, EncoderConfig, activate
from restorepix.models.lab.answer import composite
from restorepix.models.lab.context_encoder import fill_hole
from training.byol import (
    Byol,
    ByolConfig,
    augment,
    follow,
    measure_spread,
    target_momentum,
)
from training.lab.critics import ContextCritic
from training.lab.losses import adversarial_loss, critic_loss, weighted_l2
from training.lab.trainer import Draw, LabTrainer, frozen, step_optimizer

Way = Literal["byol", "context", "context, joint", "autoencoder", "denoising autoencoder", "random"]
WAYS: tuple[Way, ...] = (
    "byol",
    "context",
    "context, joint",
    "autoencoder",
    "denoising autoencoder",
    "random",
)

BATCH = 128
CROP_PX = 64
VIEW_PX = 48
"""BYOL's views of a window."""

RATES = (1e-3, 3e-4)
"""Peak learning rates of reconstruction and of BYOL, which collapses at much higher ones."""

MOMENTUM = 0.97
"""First decay of BYOL's target, that of its shortest published schedule."""

NOISE = 0.25
"""Deviation of the noise that the denoising autoencoder removes, in [-1, 1]."""


class Pretext(nn.Module):
    """An encoder and a decoder without skips: all that is known passes the deepest features."""

    def __init__(self, encoder: EncoderConfig) -> None:
        """Random weights."""
        super().__init__()
        self.encoder = Encoder(encoder)
        deepest = encoder.channels[-1]
        self.widen = nn.Conv2d(deepest, 4 * 96, 3, padding=1)
        self.middle = nn.Conv2d(96, 4 * 48, 3, padding=1)
        self.head = nn.Conv2d(48, 3 * 16, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, 3, H, W) in [-1, 1]; sides are multiples of 16."""
        x = activate(functional.pixel_shuffle(self.widen(self.encoder(image)[-1]), 2))
        x = activate(functional.pixel_shuffle(self.middle(x), 2))
        return torch.tanh(functional.pixel_shuffle(self.head(x), 4))


class PretextTrainer(LabTrainer):
    """Pre-training in one of the ``WAYS`` but ``random``."""

    decay = True

    def __init__(
        self, way: Way, encoder: EncoderConfig, *, steps: int, seed: int = 1, bf16: bool = True
    ) -> None:
        """Start a run; ``self.generator.encoder`` is what is learned."""
        torch.manual_seed(seed)
        network = Pretext(encoder)
        super().__init__(network, steps=steps, seed=seed, bf16=bf16)
        self.way = way
        learned: list[nn.Parameter] = list(network.parameters())
        self.byol: Byol | None = None
        self.critic: ContextCritic | None = None
        if way == "byol":
            sizes = ByolConfig(1, hidden=512, projection=64, bf16=bf16)
            self.byol = Byol(sizes, encoder)
            self.byol.online.encoder = network.encoder
            self.byol.target = copy.deepcopy(self.byol.online).requires_grad_(False)
            self.networks["byol"] = self.byol
            learned = [p for p in self.byol.parameters() if p.requires_grad]
        elif way == "context, joint":
            self.critic = ContextCritic(CROP_PX, 32)
            self.networks["critic"] = self.critic
            self.optimizers["critic"] = torch.optim.Adam(
                self.critic.parameters(), 2e-4, betas=(0.5, 0.999)
            )
        self.optimizers["generator"] = torch.optim.AdamW(learned, RATES[way == "byol"])

    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """One step on one batch."""
        image, mask = draw(0)
        if self.byol is not None:
            return self._learn_views(image)
        seen = image
        weights = torch.ones_like(mask)
        if self.way.startswith("context"):
            seen, weights = fill_hole(image, mask), mask
        elif self.way == "denoising autoencoder":
            seen = image + NOISE * torch.randn_like(image)
        with self.mixed():
            predicted = self.generator(seen)
        predicted = predicted.float()
        losses = {"l2": weighted_l2(predicted, image, weights)}
        total = losses["l2"]
        if self.critic is not None:
            fake = composite(predicted, image, mask)
            scores = self.judge(self.critic, image), self.judge(self.critic, fake.detach())
            losses["critic"] = critic_loss(*scores, "standard")
            step_optimizer(self.optimizers["critic"], losses["critic"])
            with frozen(self.critic):
                losses["adversarial"] = adversarial_loss(self.judge(self.critic, fake), "standard")
            total = 0.999 * total + 0.001 * losses["adversarial"]
        step_optimizer(self.optimizers["generator"], total, clip=1.0)
        return losses

    def _learn_views(self, image: Tensor) -> dict[str, Tensor]:
        assert self.byol is not None
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        first = augment(image, VIEW_PX, rng, blur=1.0, solarize=0.0, holes=0.0)
        second = augment(image, VIEW_PX, rng, blur=0.1, solarize=0.1, holes=0.5)
        loss, projections = self.byol(first, second)
        step_optimizer(self.optimizers["generator"], loss, clip=1.0)
        momentum = target_momentum(self.step, self.steps, MOMENTUM)
        follow(self.byol.target, self.byol.online, momentum)
        return {"byol": loss, "spread": torch.tensor(measure_spread(projections))}
