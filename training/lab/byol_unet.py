"""Training of the BYOL U-Net in four arms, to ask what pre-training is worth.

* ``random``: nothing pre-trained.
* ``finetuned``: a pre-trained encoder, all weights move.
* ``frozen``: a pre-trained encoder that stays as it is.
* ``joint``: BYOL's loss on whole photographs together with L1 on masked ones, from the start; with
  a draw of labelled batches of its own, L1 sees only a share of the photographs: the founding
  document's semi-supervised case.

L = L1 in the hole + ``known_weight`` x L1 outside (+ ``byol_weight`` x BYOL's loss). The target of
L1 has the input's geometry and colours; views of BYOL do not.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from restorepix.models.encoder import EncoderConfig, adapt_state
from restorepix.models.lab.byol_unet import ByolUnet
from training.byol import Byol, ByolConfig, augment, follow, target_momentum
from training.lab.losses import known_l1
from training.lab.trainer import Draw, LabTrainer, step_optimizer
from training.losses import hole_l1

Arm = Literal["random", "finetuned", "frozen", "joint"]


@dataclass(frozen=True)
class ByolUnetTraining:
    """Weights and rates."""

    arm: Arm = "finetuned"
    """See the module's text."""
    lr: float = 3e-4
    """Of AdamW, with warm-up and cosine."""
    encoder_lr_scale: float = 1.0
    """Of the encoder's rate beside the decoder's."""
    known_weight: float = 0.5
    """Of L1 outside the hole."""
    byol_weight: float = 0.1
    """Of BYOL's loss in the arm ``joint``."""
    hidden: int = 1024
    """Of BYOL's projector and predictor."""
    projection: int = 128
    """Dimensions that are predicted."""
    momentum: float = 0.99
    """First decay of BYOL's target."""


class ByolUnetTrainer(LabTrainer):
    """One arm."""

    decay = True

    def __init__(
        self,
        generator: ByolUnet,
        training: ByolUnetTraining,
        *,
        steps: int,
        seed: int = 1,
        bf16: bool = True,
        pretrained: dict[str, Tensor] | None = None,
        labelled: Draw | None = None,
    ) -> None:
        """Start a run.

        Args:
            generator: to train.
            training: arm, weights and rates.
            steps: of the run.
            seed: of all that is random.
            bf16: autocast the generator.
            pretrained: state of an encoder of the same sizes (``training.byol``), for the arms
                ``finetuned`` and ``frozen``.
            labelled: batches for L1 in the arm ``joint``; None for the same as BYOL's.

        Raises:
            ValueError: an arm without the encoder that it needs, or with one that it must not have.
        """
        super().__init__(generator, steps=steps, seed=seed, bf16=bf16)
        self.training = training
        if (training.arm in ("finetuned", "frozen")) != (pretrained is not None):
            found = "one" if pretrained is not None else "none"
            msg = f"arm {training.arm!r}: a pre-trained encoder belongs to finetuned and frozen"
            raise ValueError(f"{msg} alone, found {found}")
        if pretrained is not None:
            generator.encoder.load_state_dict(adapt_state(pretrained, 4))
        self._labelled = labelled
        self.byol: Byol | None = None
        if training.arm == "joint":
            self.byol = build_byol(generator, training, bf16)
            self.networks["byol"] = self.byol
        elif training.arm == "frozen":
            generator.encoder.requires_grad_(False)
        encoder = {id(item) for item in generator.encoder.parameters()}
        slow = training.encoder_lr_scale * training.lr
        groups: list[dict[str, object]] = [
            {"params": list(generator.encoder.parameters()), "lr": slow}
        ]
        rest = [p for p in generator.parameters() if id(p) not in encoder]
        if self.byol is not None:
            own = [*self.byol.online.projector.parameters(), *self.byol.predictor.parameters()]
            rest += own
        groups.append({"params": rest})
        if training.arm == "frozen":
            groups = groups[1:]
        self.optimizers["generator"] = torch.optim.AdamW(groups, training.lr, betas=(0.9, 0.99))

    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """One step on one batch; with labelled draws, L1 on one of those."""
        training, optimizer = self.training, self.optimizers["generator"]
        seen, _ = image, mask = draw(0)
        if self._labelled is not None:
            image, mask = self._labelled(self.step)
        with self.mixed():
            answer = self.generator(image, mask)
        predicted = answer.refined.float()
        losses = {
            "hole": hole_l1(predicted, image, mask),
            "known": known_l1(predicted, image, mask),
        }
        total = losses["hole"] + training.known_weight * losses["known"]
        if self.byol is not None:
            losses["byol"] = self.byol(*self._draw_views(seen))[0]
            total = total + training.byol_weight * losses["byol"]
        step_optimizer(optimizer, total, clip=1.0)
        if self.byol is not None:
            momentum = target_momentum(self.step, self.steps, training.momentum)
            follow(self.byol.target, self.byol.online, momentum)
        return losses

    def _draw_views(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Two views of half the side, with an empty mask as the fourth channel."""
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        side = image.shape[-1] // 2
        views = (
            augment(image, side, rng, blur=1.0, solarize=0.0, holes=0.0),
            augment(image, side, rng, blur=0.1, solarize=0.1, holes=0.5),
        )
        first, second = (torch.cat([view, torch.zeros_like(view[:, :1])], 1) for view in views)
        return first, second


def build_byol(generator: ByolUnet, training: ByolUnetTraining, bf16: bool) -> Byol:
    """BYOL around the generator's own encoder: both losses move the same weights."""
    sizes = ByolConfig(1, hidden=training.hidden, projection=training.projection, bf16=bf16)
    encoder: EncoderConfig = generator.config.encoder
    byol = Byol(sizes, encoder)
    byol.online.encoder = generator.encoder
    byol.target = copy.deepcopy(byol.online).requires_grad_(False)
    return byol.to(next(generator.parameters()).device).train()
