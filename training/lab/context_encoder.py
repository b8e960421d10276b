"""Training of context encoders: masked L2 and a critic of the predicted part.

Pathak et al. (CVPR 2016), eq. 1 to 3: 0.999 L2 + 0.001 adversarial (non-saturating). Rates are
those of the published program, in which the generator's is ten times the critic's; the founding
documents say they are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from restorepix.models.lab.answer import composite
from restorepix.models.lab.context_encoder import (
    CENTER_PX,
    WINDOW_PX,
    AlexContextEncoder,
    ContextEncoder,
)
from training.lab.critics import ContextCritic
from training.lab.losses import (
    adversarial_loss,
    critic_loss,
    overlap_weights,
    weighted_l2,
)
from training.lab.trainer import Draw, LabTrainer, frozen, step_optimizer

EDGE = (WINDOW_PX - CENTER_PX) // 2


@dataclass(frozen=True)
class ContextTraining:
    """Weights and rates."""

    lr: float = 0.002
    """Of the generator's Adam, whose first beta is 0.5."""
    critic_lr: float = 0.0002
    """Of the critic's."""
    adversarial_weight: float = 0.001
    """Of the adversarial term; reconstruction weighs 1 minus this. 0 trains without a critic."""
    reconstruction: Literal["l2", "l1"] = "l2"
    """Mean square, or (in place of it) mean absolute error, under the same weights."""
    rim_weight: float = 10.0
    """Form ``center``: of the rim in which prediction and context overlap."""
    known_weight: float = 0.0
    """Form ``whole``: of known pixels beside the hole's 1. The published program weighs all alike
    (1), the founding documents mask them (0)."""
    critic_channels: int = 64
    """Of the critic's first layer."""
    critic_sees_context: bool = False
    """Form ``center``: whether the critic judges the whole window, not its middle alone."""


class ContextTrainer(LabTrainer):
    """A context encoder of any form, with or without a critic."""

    def __init__(
        self,
        generator: ContextEncoder | AlexContextEncoder,
        training: ContextTraining,
        *,
        steps: int,
        seed: int = 1,
        bf16: bool = True,
        side_px: int = WINDOW_PX,
    ) -> None:
        """Start a run on crops of ``side_px``: 128, or 64 for the form ``whole``.

        Raises:
            ValueError: the AlexNet form with a critic, for which no settings are known to work, or
                crops of a size that its critic cannot judge.
        """
        super().__init__(generator, steps=steps, seed=seed, bf16=bf16)
        self.training = training
        self.center = isinstance(generator, ContextEncoder) and generator.config.form == "center"
        self.optimizers["generator"] = torch.optim.Adam(
            generator.parameters(), training.lr, betas=(0.5, 0.999)
        )
        self.critic: ContextCritic | None = None
        if training.adversarial_weight:
            if isinstance(generator, AlexContextEncoder):
                msg = "the AlexNet form is trained without a critic: adversarial_weight must be 0"
                raise ValueError(msg)
            patch = self.center and not training.critic_sees_context
            self.critic = ContextCritic(CENTER_PX if patch else side_px, training.critic_channels)
            self.critic.to(next(generator.parameters()).device)
            self.networks["critic"] = self.critic
            self.optimizers["critic"] = torch.optim.Adam(
                self.critic.parameters(), training.critic_lr, betas=(0.5, 0.999)
            )

    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """One step of the critic, then one of the generator, on one batch."""
        image, mask = draw(0)
        predicted, target, weights, judged, real = self._predict(image, mask)
        losses: dict[str, Tensor] = {}
        if self.critic is not None:
            scores = self.judge(self.critic, real), self.judge(self.critic, judged.detach())
            losses["critic"] = critic_loss(*scores, "standard")
            step_optimizer(self.optimizers["critic"], losses["critic"])
        losses["reconstruction"] = self.compute_reconstruction(predicted, target, weights)
        share = self.training.adversarial_weight
        total = (1 - share) * losses["reconstruction"]
        if self.critic is not None:
            with frozen(self.critic):
                losses["adversarial"] = adversarial_loss(
                    self.judge(self.critic, judged), "standard"
                )
            total = total + share * losses["adversarial"]
        step_optimizer(self.optimizers["generator"], total)
        return losses

    def compute_reconstruction(self, predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """Weighted L2, or L1 in its place."""
        if self.training.reconstruction == "l2":
            return weighted_l2(predicted, target, weights)
        counted = (weights > 0).to(weights.dtype).sum().clamp_min(1) * predicted.shape[1]
        return ((predicted - target).abs() * weights).sum() / counted

    def _predict(
        self, image: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Prediction, its truth and weights; and what a critic judges, false and true."""
        if not self.center:
            with self.mixed():
                predicted = self.generator(image, mask).refined
            predicted = predicted.float()
            weights = mask + self.training.known_weight * (1 - mask)
            judged = predicted if self.training.known_weight else composite(predicted, image, mask)
            return predicted, image, weights, judged, image
        assert isinstance(self.generator, ContextEncoder)
        hidden = self.generator.hide_center(image)
        with self.mixed():
            middle = self.generator.predict(image, hidden)
        middle = middle.float()
        target = image[..., EDGE:-EDGE, EDGE:-EDGE]
        region = torch.zeros_like(hidden)
        region[..., EDGE:-EDGE, EDGE:-EDGE] = 1
        weights = overlap_weights(
            region, rim_px=self.generator.config.overlap, rim_weight=self.training.rim_weight
        )[..., EDGE:-EDGE, EDGE:-EDGE]
        if not self.training.critic_sees_context:
            return middle, target, weights, middle, target
        whole = torch.nn.functional.pad(middle, (EDGE,) * 4)
        return middle, target, weights, composite(whole, image, region), image
