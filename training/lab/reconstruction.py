"""Training by reconstruction alone: the plainest recipe, for any system."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.lab.trainer import Draw, LabTrainer, step_optimizer
from training.losses import hole_l1


@dataclass(frozen=True)
class ReconstructionTraining:
    """Weights and rates."""

    lr: float = 4e-4
    """Of AdamW; a linear warm-up over 5 % of the steps, then half a cosine to 0."""
    coarse_weight: float = 0.3
    """Of the coarse stage's hole L1 beside the refined one's."""
    clip: float = 1.0
    """Largest gradient norm."""


class ReconstructionTrainer(LabTrainer):
    """Hole L1 of every stage."""

    decay = True

    def __init__(
        self,
        generator: nn.Module,
        training: ReconstructionTraining,
        *,
        steps: int,
        seed: int = 1,
        bf16: bool = True,
    ) -> None:
        """Start a run; the generator's answers have ``coarse`` and ``refined``."""
        super().__init__(generator, steps=steps, seed=seed, bf16=bf16)
        self.training = training
        self.optimizers["generator"] = torch.optim.AdamW(
            generator.parameters(), training.lr, betas=(0.9, 0.99)
        )

    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """One step on one batch."""
        optimizer = self.optimizers["generator"]
        image, mask = draw(0)
        with self.mixed():
            answer = self.generator(image, mask)
        refined = hole_l1(answer.refined.float(), image, mask)
        coarse = hole_l1(answer.coarse.float(), image, mask)
        loss = refined + self.training.coarse_weight * coarse
        step_optimizer(optimizer, loss, clip=self.training.clip)
        return {"refined": refined, "coarse": coarse}
