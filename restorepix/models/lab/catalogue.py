"""Every system of the laboratory by name, trained or not, and how each is built; imports no torch.

Few of them have weights that are small and good enough to publish. A name without weights is no
mistake of the user's: ``describe_training`` says how to make them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LabModel:
    """One system."""

    name: str
    """What ``--model`` calls it, and its recipe."""
    architecture: str
    """Name in the header of its weights files."""
    build: Callable[[Mapping[str, Any]], nn.Module]
    """From the header's config; TypeError or ValueError on one that does not fit."""
    source: str
    """Whose system it is."""
    needs: str = ""
    """What its training takes beside a recipe and photographs, as options of the command."""


def _build_deepfill(config: Mapping[str, Any]) -> nn.Module:
    from restorepix.models.lab.deepfill import DeepFill, DeepFillConfig

    return DeepFill(DeepFillConfig(**config))


def _build_context_encoder(config: Mapping[str, Any]) -> nn.Module:
    from restorepix.models.lab.context_encoder import ContextEncoder, ContextEncoderConfig

    return ContextEncoder(ContextEncoderConfig(**config))


def _build_alexnet(config: Mapping[str, Any]) -> nn.Module:
    from restorepix.models.lab.context_encoder import AlexContextEncoder

    if config:
        msg = f"the AlexNet form has no settings, found {', '.join(config)}"
        raise ValueError(msg)
    return AlexContextEncoder()


def _build_glcic(config: Mapping[str, Any]) -> nn.Module:
    from restorepix.models.lab.glcic import Glcic, GlcicConfig

    return Glcic(GlcicConfig(**config))


def _build_shift_net(config: Mapping[str, Any]) -> nn.Module:
    from restorepix.models.lab.shift_net import ShiftNet, ShiftNetConfig

    return ShiftNet(ShiftNetConfig(**config))


def _build_byol_unet(config: Mapping[str, Any]) -> nn.Module:
    from restorepix.models.lab.byol_unet import ByolUnet, ByolUnetConfig

    return ByolUnet(ByolUnetConfig.from_mapping(config))


_MODELS: Final = (
    LabModel("deepfill-v1", "lab-deepfill-1", _build_deepfill, "Yu et al., CVPR 2018"),
    LabModel(
        "context-encoder",
        "lab-context-encoder-1",
        _build_context_encoder,
        "Pathak et al., CVPR 2016",
    ),
    LabModel(
        "context-encoder-alexnet",
        "lab-context-encoder-alexnet-1",
        _build_alexnet,
        "Pathak et al., CVPR 2016",
    ),
    LabModel("glcic", "lab-glcic-1", _build_glcic, "Iizuka et al., SIGGRAPH 2017"),
    LabModel("shift-net", "lab-shift-net-1", _build_shift_net, "Yan et al., ECCV 2018"),
    LabModel(
        "byol-unet",
        "lab-byol-unet-1",
        _build_byol_unet,
        "after Grill et al., 2020",
        needs=" --encoder runs/byol/encoder.safetensors",
    ),
)

LAB_MODELS: Final[Mapping[str, LabModel]] = {model.name: model for model in _MODELS}
"""Systems by name."""


METHODS: Final[Mapping[str, str]] = {
    "telea": "Telea, J. Graphics Tools 2004, by OpenCV",
    "ns": "Bertalmio et al., CVPR 2001, by OpenCV",
    "pull-push": "the smooth fill that the default inpainter starts from",
    "patchmatch": "Barnes et al., SIGGRAPH 2009; Wexler et al., PAMI 2007",
}
"""Methods without weights, and whose they are; ``restorepix.models.lab.methods`` has them."""


def build_method(config: Mapping[str, Any]) -> nn.Module:
    """The method that ``config["method"]`` names, called like a network."""
    from restorepix.models.lab.methods import MethodInpainter

    return MethodInpainter(str(config["method"]))


def describe_training(name: str) -> str:
    """What to do about a system whose weights are nowhere, in one or two sentences."""
    return (
        f"Train it in a checkout of restorepix, python -m training.lab.run "
        f"training/recipes/lab/{name}.toml --cache runs/cache --run runs/{name}"
        f"{LAB_MODELS[name].needs}, and pass "
        f"--weights runs/{name}/{name}.safetensors (docs/systems.md)"
    )
