"""Training of DeepFill v1: reconstruction of both stages and two Wasserstein critics.

Yu et al. (CVPR 2018), section 3.1 to 3.3 and algorithm 1, with the weights of the published
program:

    L = 1.2 (1.2 L1(coarse) + L1(refined)) + 1.2 (1.2 AE(coarse) + AE(refined)) + 0.001 (global +
    local adversarial)

where L1 is over the hole, discounted, and AE over known pixels. The critics see the composited
refined result only. Adam 1e-4 (0.5, 0.9), five critic steps to one of the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from restorepix.models.encoder import Encoder
from restorepix.models.lab.answer import Answer, composite
from restorepix.models.lab.deepfill import DeepFill
from training.lab.critics import DeepFillCritics, crop_around_hole
from training.lab.losses import (
    Discount,
    adversarial_loss,
    critic_loss,
    discounted_l1,
    feature_loss,
    gradient_penalty,
    known_l1,
    style_loss,
    total_variation,
)
from training.lab.trainer import Draw, LabTrainer, frozen, step_optimizer


@dataclass(frozen=True)
class DeepFillTraining:
    """Weights and rates; the defaults are the published program's, except where it says so."""

    lr: float = 1e-4
    """Of all Adam optimizers; their betas are 0.5 and 0.9."""
    critic_steps: int = 5
    """Critic steps to one of the generator, each on a batch of its own."""
    critic_channels: int = 64
    """Of the critics' first layers."""
    adversary: Literal["wgan", "standard", "lsgan", "none"] = "wgan"
    """``wgan`` has the masked gradient penalty; the others none."""
    discount: Discount = "distance"
    """``published`` for boxes as in the original; ``distance`` takes holes of any shape."""
    gamma: float = 0.9
    """The discount's base: the paper says 0.99, its program 0.9, which its author advises."""
    hole_weight: float = 1.2
    """Of L1 in the hole."""
    known_weight: float = 1.2
    """Of L1 outside it."""
    coarse_weight: float = 1.2
    """Of the coarse stage's part of both."""
    refined_l1: bool = True
    """Whether the refined result has L1 terms at all; without them structure suffers."""
    adversarial_weight: float = 0.001
    """Of the adversarial terms."""
    penalty: float = 10.0
    """Of the gradient penalty."""
    perceptual_weight: float = 0.0
    """Of differences in a frozen encoder's features; needs ``features``."""
    style_weight: float = 0.0
    """Of differences in their Gram matrices."""
    variation_weight: float = 0.0
    """Of total variation in the composited result."""


class DeepFillTrainer(LabTrainer):
    """Generator against two critics."""

    def __init__(
        self,
        generator: DeepFill,
        training: DeepFillTraining,
        *,
        steps: int,
        seed: int = 1,
        bf16: bool = True,
        side_px: int = 256,
        features: Encoder | None = None,
    ) -> None:
        """Start a run.

        Args:
            generator: to train.
            training: weights and rates.
            steps: of the generator.
            seed: of all that is random.
            bf16: autocast the generator.
            side_px: of the crops; the local critic sees half of it.
            features: an encoder for perceptual and style terms; it is frozen.

        Raises:
            ValueError: those terms are asked for without ``features``.
        """
        super().__init__(generator, steps=steps, seed=seed, bf16=bf16)
        self.training = training
        if (training.perceptual_weight or training.style_weight) and features is None:
            msg = "perceptual and style terms need an encoder (features), found none"
            raise ValueError(msg)
        self.features = features.eval().requires_grad_(False) if features else None
        self.optimizers["generator"] = _adam(generator, training.lr)
        self.critics: DeepFillCritics | None = None
        if training.adversary != "none":
            self.draws = 1 + training.critic_steps
            self.critics = DeepFillCritics(side_px, side_px // 2, training.critic_channels)
            self.critics.to(next(generator.parameters()).device)
            self.networks["critics"] = self.critics
            self.optimizers["critics"] = _adam(self.critics, training.lr)

    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """Critic steps on batches of their own, then one of the generator."""
        losses: dict[str, Tensor] = {}
        if self.critics is not None:
            for number in range(1, self.draws):
                image, mask = draw(number)
                with torch.no_grad(), self.mixed():
                    answer = self.generator(image, mask)
                fake = composite(answer.refined.float(), image, mask)
                losses["critics"] = self.compute_critic_loss(image, fake, mask)
                step_optimizer(self.optimizers["critics"], losses["critics"])
        image, mask = draw(0)
        with self.mixed():
            answer = self.generator(image, mask)
        answer = Answer(*(stage.float() for stage in answer))
        losses["reconstruction"] = self.compute_reconstruction(answer, image, mask)
        total = losses["reconstruction"]
        if self.critics is not None:
            with frozen(self.critics):
                fake = composite(answer.refined, image, mask)
                losses["adversarial"] = self.compute_adversarial(fake, mask)
                total = total + self.training.adversarial_weight * losses["adversarial"]
        extra = self._compute_extras(composite(answer.refined, image, mask), image)
        losses |= extra
        step_optimizer(self.optimizers["generator"], total + sum(extra.values()))
        return losses

    def compute_reconstruction(self, answer: Answer, image: Tensor, mask: Tensor) -> Tensor:
        """The L1 terms of both stages."""
        training = self.training
        total = image.new_zeros(())
        weights = [(answer.coarse, training.coarse_weight)]
        if training.refined_l1:
            weights.append((answer.refined, 1.0))
        for stage, weight in weights:
            hole = discounted_l1(stage, image, mask, gamma=training.gamma, form=training.discount)
            known = known_l1(stage, image, mask)
            total = total + weight * (training.hole_weight * hole + training.known_weight * known)
        return total

    def compute_critic_loss(self, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
        """Both critics' losses with their penalties (eq. 6 and 7)."""
        assert self.critics is not None
        kind = self.training.adversary
        assert kind != "none"
        total = real.new_zeros(())
        for critic, side in ((self.critics.whole, 0), (self.critics.local, self.critics.local_px)):
            parts = [real, fake.detach(), mask]
            if side:
                parts = [crop_around_hole(part, mask, side) for part in parts]
            truth, guess, hole = parts
            if kind != "wgan":
                scores = self.judge(critic, truth), self.judge(critic, guess)
                total = total + critic_loss(*scores, kind)
                continue
            total = total + critic_loss(critic(truth), critic(guess), kind)
            total = total + gradient_penalty(
                critic, truth, guess, hole, weight=self.training.penalty
            )
        return total

    def compute_adversarial(self, fake: Tensor, mask: Tensor) -> Tensor:
        """What both critics say against the generator, added."""
        assert self.critics is not None
        kind = self.training.adversary
        assert kind != "none"
        views = (
            (self.critics.whole, fake),
            (self.critics.local, crop_around_hole(fake, mask, self.critics.local_px)),
        )
        scores = [c(view) if kind == "wgan" else self.judge(c, view) for c, view in views]
        return adversarial_loss(scores[0], kind) + adversarial_loss(scores[1], kind)

    def _compute_extras(self, completed: Tensor, image: Tensor) -> dict[str, Tensor]:
        training = self.training
        extra: dict[str, Tensor] = {}
        if self.features is not None and (training.perceptual_weight or training.style_weight):
            seen, truth = _see(self.features, completed), _see(self.features, image)
            extra["perceptual"] = training.perceptual_weight * feature_loss(seen, truth)
            extra["style"] = training.style_weight * style_loss(seen, truth)
        if training.variation_weight:
            extra["variation"] = training.variation_weight * total_variation(completed)
        return extra


def _see(encoder: Encoder, image: Tensor) -> Sequence[Tensor]:
    channels = encoder.config.in_channels
    if channels == 4:
        image = torch.cat([image, torch.zeros_like(image[:, :1])], 1)
    return encoder(image)


def _adam(network: torch.nn.Module, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), rate, betas=(0.5, 0.9))
