"""Training of GLCIC in three phases: the generator alone, the critic alone, then both.

Iizuka et al. (SIGGRAPH 2017), section 3.4 and algorithm 1: 90,000, 10,000 and 400,000 iterations of
Adadelta; L = MSE in the hole + 0.0004 adversarial. The critic judges composited pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from restorepix.models.lab.answer import composite
from restorepix.models.lab.glcic import Glcic
from training.lab.critics import JointCritic, crop_around_hole
from training.lab.losses import adversarial_loss, critic_loss
from training.lab.trainer import Draw, LabTrainer, frozen, step_optimizer

Phase = Literal["generator", "critic", "joint"]


@dataclass(frozen=True)
class GlcicTraining:
    """Weights and phases."""

    generator_share: float = 0.18
    """Of the steps, for the first phase."""
    critic_share: float = 0.02
    """Of the steps, for the second."""
    alpha: float = 4e-4
    """Of the adversarial term."""
    lr: float = 1.0
    """Of Adadelta, whose own default it is."""
    critic_channels: int = 64
    """Of the critic's first layers."""


def find_phase(step: int, steps: int, training: GlcicTraining) -> Phase:
    """What is trained at a step."""
    if step < training.generator_share * steps:
        return "generator"
    if step < (training.generator_share + training.critic_share) * steps:
        return "critic"
    return "joint"


def hole_mse(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error inside the hole (eq. 2), each sample's hole weighing the same."""
    error = ((predicted - target).square() * mask).flatten(1).sum(1)
    return (error / (mask.flatten(1).sum(1) * predicted.shape[1]).clamp_min(1)).mean()


class GlcicTrainer(LabTrainer):
    """Generator and joint critic."""

    def __init__(
        self,
        generator: Glcic,
        training: GlcicTraining,
        *,
        steps: int,
        seed: int = 1,
        bf16: bool = True,
        side_px: int = 256,
    ) -> None:
        """Start a run on crops of ``side_px``, whose local crops are half of that."""
        super().__init__(generator, steps=steps, seed=seed, bf16=bf16)
        self.training = training
        self.critic = JointCritic(side_px, side_px // 2, training.critic_channels)
        self.critic.to(next(generator.parameters()).device)
        self.networks["critic"] = self.critic
        for name, network in self.networks.items():
            self.optimizers[name] = torch.optim.Adadelta(network.parameters(), training.lr)

    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """One step of what the phase trains."""
        phase = find_phase(self.step, self.steps, self.training)
        image, mask = draw(0)
        with torch.set_grad_enabled(phase != "critic"), self.mixed():
            predicted = self.generator(image, mask).refined
        fake = composite(predicted.float(), image, mask)
        losses: dict[str, Tensor] = {}
        if phase != "generator":
            losses["critic"] = critic_loss(
                self._judge_both(image, mask), self._judge_both(fake.detach(), mask), "standard"
            )
            step_optimizer(self.optimizers["critic"], losses["critic"])
        if phase != "critic":
            losses["reconstruction"] = hole_mse(fake, image, mask)
            total = losses["reconstruction"]
            if phase == "joint":
                with frozen(self.critic):
                    losses["adversarial"] = adversarial_loss(
                        self._judge_both(fake, mask), "standard"
                    )
                total = total + self.training.alpha * losses["adversarial"]
            step_optimizer(self.optimizers["generator"], total)
        return losses

    def _judge_both(self, image: Tensor, mask: Tensor) -> Tensor:
        local = crop_around_hole(image, mask, self.critic.local_px)
        return self.judge(self.critic, image, local)
