"""Training of Shift-Net: L1, the guidance of the decoder, and a patch critic.

Yan et al. (ECCV 2018), eq. 3 to 6: L1 + 0.01 guidance + 0.002 adversarial. Guidance pulls the
decoder's features in the hole, before the shift, to what the encoder says of the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from restorepix.models.lab.answer import composite
from restorepix.models.lab.shift_net import SHIFT_LEVEL, ShiftNet
from training.lab.critics import PatchCritic
from training.lab.losses import adversarial_loss, critic_loss
from training.lab.trainer import Draw, LabTrainer, frozen, step_optimizer


@dataclass(frozen=True)
class ShiftTraining:
    """Weights and rates."""

    lr: float = 2e-4
    """Of both Adam optimizers; their betas are 0.5 and 0.999."""
    guidance_weight: float = 0.01
    """Of the guidance loss."""
    adversarial_weight: float = 0.002
    """Of the least-squares adversarial term; 0 trains without a critic."""
    critic_channels: int = 64
    """Of the critic's first layer."""


def guidance_loss(decoded: Tensor, encoded_truth: Tensor, hole: Tensor) -> Tensor:
    """Mean square, over hole cells, of decoder features against those of the truth (eq. 3).

    Args:
        decoded: (B, C, h, w), before the shift.
        encoded_truth: (B, C, h, w), the encoder's features of the undamaged picture; constant.
        hole: (B, 1, h, w) in {0, 1}, 1 = hole.
    """
    error = (decoded - encoded_truth.detach()).square() * hole
    return error.sum() / (hole.sum() * decoded.shape[1]).clamp_min(1)


class ShiftNetTrainer(LabTrainer):
    """Generator and patch critic; crops are multiples of 2^depth."""

    def __init__(
        self,
        generator: ShiftNet,
        training: ShiftTraining,
        *,
        steps: int,
        seed: int = 1,
        bf16: bool = True,
    ) -> None:
        """Start a run."""
        super().__init__(generator, steps=steps, seed=seed, bf16=bf16)
        self.training = training
        self.critic: PatchCritic | None = None
        if training.adversarial_weight:
            self.critic = PatchCritic(training.critic_channels)
            self.critic.to(next(generator.parameters()).device)
            self.networks["critic"] = self.critic
        for name, network in self.networks.items():
            self.optimizers[name] = torch.optim.Adam(
                network.parameters(), training.lr, betas=(0.5, 0.999)
            )

    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """One step of the critic, then one of the generator, on one batch."""
        assert isinstance(self.generator, ShiftNet)
        image, mask = draw(0)
        with self.mixed():
            answer, guidance = self.generator.predict(image, mask)
            with torch.no_grad():
                truth = self.generator.encode(image, torch.zeros_like(mask))[SHIFT_LEVEL - 1]
        predicted = answer.refined.float()
        fake = composite(predicted, image, mask)
        losses: dict[str, Tensor] = {}
        if self.critic is not None:
            scores = self.judge(self.critic, image), self.judge(self.critic, fake.detach())
            losses["critic"] = critic_loss(*scores, "lsgan")
            step_optimizer(self.optimizers["critic"], losses["critic"])
        losses["l1"] = (predicted - image).abs().mean()
        losses["guidance"] = guidance_loss(
            guidance.decoded.float(), truth.float(), guidance.hole.float()
        )
        total = losses["l1"] + self.training.guidance_weight * losses["guidance"]
        if self.critic is not None:
            with frozen(self.critic):
                losses["adversarial"] = adversarial_loss(self.judge(self.critic, fake), "lsgan")
            total = total + self.training.adversarial_weight * losses["adversarial"]
        step_optimizer(self.optimizers["generator"], total)
        return losses
