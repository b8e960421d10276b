"""Every system with its trainer: from a recipe to a run that can begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from restorepix.models.generator import Generator, GeneratorConfig
from restorepix.models.lab.byol_unet import ByolUnet
from restorepix.models.lab.catalogue import LAB_MODELS
from restorepix.models.lab.context_encoder import AlexContextEncoder, ContextEncoder
from restorepix.models.lab.deepfill import DeepFill
from restorepix.models.lab.glcic import Glcic
from restorepix.models.lab.shift_net import ShiftNet
from training.lab.byol_unet import ByolUnetTrainer, ByolUnetTraining
from training.lab.context_encoder import ContextTrainer, ContextTraining
from training.lab.deepfill import DeepFillTrainer, DeepFillTraining
from training.lab.glcic import GlcicTrainer, GlcicTraining
from training.lab.recipe import DEFAULT_SYSTEM, Recipe
from training.lab.reconstruction import ReconstructionTrainer, ReconstructionTraining
from training.lab.shift_net import ShiftNetTrainer, ShiftTraining
from training.lab.trainer import LabTrainer


@dataclass(frozen=True)
class _System:
    training: type
    start: Callable[[nn.Module, Any, Recipe, Mapping[str, Any]], LabTrainer]


def _common(recipe: Recipe) -> dict[str, Any]:
    return {"steps": recipe.lab.steps, "seed": recipe.lab.seed, "bf16": recipe.lab.bf16}


def _start_deepfill(
    model: nn.Module, training: Any, recipe: Recipe, extra: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, DeepFill)
    side = recipe.lab.crop_px
    wants = training.perceptual_weight or training.style_weight
    features = extra.get("features") if wants else None
    return DeepFillTrainer(model, training, side_px=side, features=features, **_common(recipe))


def _start_context(
    model: nn.Module, training: Any, recipe: Recipe, _: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, ContextEncoder | AlexContextEncoder)
    return ContextTrainer(model, training, side_px=recipe.lab.crop_px, **_common(recipe))


def _start_glcic(
    model: nn.Module, training: Any, recipe: Recipe, _: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, Glcic)
    return GlcicTrainer(model, training, side_px=recipe.lab.crop_px, **_common(recipe))


def _start_shift_net(
    model: nn.Module, training: Any, recipe: Recipe, _: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, ShiftNet)
    return ShiftNetTrainer(model, training, **_common(recipe))


def _start_byol_unet(
    model: nn.Module, training: Any, recipe: Recipe, extra: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, ByolUnet)
    wants = training.arm in ("finetuned", "frozen")
    return ByolUnetTrainer(
        model, training, pretrained=extra.get("pretrained") if wants else None,
        labelled=extra.get("labelled") if training.arm == "joint" else None, **_common(recipe),
    )  # fmt: skip


def _start_reconstruction(
    model: nn.Module, training: Any, recipe: Recipe, _: Mapping[str, Any]
) -> LabTrainer:
    return ReconstructionTrainer(model, training, **_common(recipe))


SYSTEMS: dict[str, _System] = {
    DEFAULT_SYSTEM: _System(ReconstructionTraining, _start_reconstruction),
    "deepfill-v1": _System(DeepFillTraining, _start_deepfill),
    "context-encoder": _System(ContextTraining, _start_context),
    "context-encoder-alexnet": _System(ContextTraining, _start_context),
    "glcic": _System(GlcicTraining, _start_glcic),
    "shift-net": _System(ShiftTraining, _start_shift_net),
    "byol-unet": _System(ByolUnetTraining, _start_byol_unet),
}
"""How each system is trained."""


def build_model(system: str, config: Mapping[str, Any]) -> nn.Module:
    """A system's network with random weights."""
    if system == DEFAULT_SYSTEM:
        return Generator(GeneratorConfig.from_mapping(config))
    return LAB_MODELS[system].build(config)


def start_run(
    recipe: Recipe, device: torch.device, extra: Mapping[str, Any] | None = None
) -> LabTrainer:
    """A fresh trainer.

    Args:
        recipe: system and settings.
        device: where it runs.
        extra: ``pretrained`` encoder state and ``labelled`` draw for the BYOL U-Net, ``features``
            for perceptual terms; those that a system does not want are left alone. ``start``, the
            state of a network to go on from (``adopt_state``).
    """
    extra = extra or {}
    torch.manual_seed(recipe.lab.seed)
    model = build_model(recipe.lab.system, recipe.model).to(device)
    if "start" in extra:
        adopt_state(model, extra["start"])
    system = SYSTEMS[recipe.lab.system]
    trainer = system.start(model, system.training(**recipe.training), recipe, extra)
    trainer.decay = trainer.decay or recipe.lab.decay
    for network in trainer.networks.values():
        # DeepFill without attention: 0.64 s a step in place of 0.91 on one core.
        network.to(memory_format=torch.channels_last)
    return trainer


def adopt_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Go on from a trained network that lacks a part of this one.

    Layers that the state lacks keep their random weights. A convolution that reads more channels
    than its like in the state gets zeros for the new ones, so that the network answers as the
    trained one did until training finds use for the new part.

    Args:
        network: changed in place.
        state: of a network whose parts are a subset.

    Raises:
        ValueError: a tensor that this network lacks, or of a shape that does not grow into its.
    """
    own = network.state_dict()
    for name, value in state.items():
        if name not in own:
            raise ValueError(f"{name}: the network to go on from has it, this one does not")
        target = own[name]
        if target.shape == value.shape:
            target.copy_(value)
            continue
        grows = target.ndim == value.ndim == 4 and target.shape[1] > value.shape[1]
        if not grows or target[:, : value.shape[1]].shape != value.shape:
            found = f"{tuple(value.shape)}, expected {tuple(target.shape)}"
            raise ValueError(f"{name}: it is {found} or the same with fewer input channels")
        target.zero_()
        target[:, : value.shape[1]].copy_(value)
