"""The rows of the laboratory's table, and the claims that pairs of them put to the test.

Every trained row sees the same number of crops of the same photographs under the same masks from
the same seed. Networks are half as wide as published (a quarter of the work); what the published
sizes cost is measured apart. Rows of one group differ in one thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from training.lab.run import LabConfig, Recipe

BATCH = 16
CROP_PX = 128
FEW = 0.1
"""Share of the photographs that rows about few images train on."""

Group = Literal["systems", "attention", "losses", "context", "pretraining"]

GROUPS: dict[Group, str] = {
    "systems": "Systems",
    "attention": "Ablations of DeepFill v1: attention (no critic)",
    "losses": "Ablations of DeepFill v1: losses",
    "context": "Ablations of context encoders",
    "pretraining": "BYOL U-Net: what pre-training is worth",
}
"""Headings of the tables."""


@dataclass(frozen=True)
class Row:
    """One trained system."""

    name: str
    group: Group
    system: str
    model: Mapping[str, Any] = field(default_factory=dict[str, Any])
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lab: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Changes to ``LabConfig``: masks, share of the photographs."""
    blend: bool = False
    """Whether a second row shows it with Poisson blending."""
    patches: bool = False
    """Whether a second row shows PatchMatch started from it."""

    def build_recipe(self, crops: int, bank: int, seed: int) -> Recipe:
        """The recipe for a budget of ``crops`` crops."""
        steps = max(1, crops // BATCH)
        config = LabConfig(
            self.system, steps, BATCH, CROP_PX, bank=bank, seed=seed, **dict(self.lab)
        )
        return Recipe(config, self.model, self.training)


HALF = {"channels": 16}
PLAIN = {"adversary": "none"}
SMALL_CRITIC = {"critic_steps": 1, "critic_channels": 32}
WHOLE = {"form": "whole", "waist": "pointwise", "width": 512}


def _deepfill(name: str, group: Group, *, model: Any = None, **training: Any) -> Row:
    return Row(name, group, "deepfill-v1", HALF | (model or {}), PLAIN | training)


def _byol(name: str, arm: str, **lab: Any) -> Row:
    few = {"share": FEW, "masks": "box"}
    return Row(name, "pretraining", "byol-unet", {}, {"arm": arm}, few | lab)


ROWS: tuple[Row, ...] = (
    Row("restorepix, reconstruction only", "systems", "restorepix", {"attention": False}),
    Row("DeepFill v1", "systems", "deepfill-v1", HALF, SMALL_CRITIC),
    Row(
        "DeepFill v1 baseline, no attention", "systems", "deepfill-v1",
        HALF | {"branch": "none"}, SMALL_CRITIC,
    ),
    Row(
        "context encoder, AlexNet form", "systems", "context-encoder-alexnet", {},
        {"adversarial_weight": 0.0, "lr": 0.0005},
    ),
    Row("context encoder, centre form", "systems", "context-encoder", {"form": "center"}),
    Row("context encoder, any size", "systems", "context-encoder", WHOLE, patches=True),
    Row("GLCIC", "systems", "glcic", {"channels": 32}, {"critic_channels": 32}, blend=True),
    Row("Shift-Net", "systems", "shift-net", {"channels": 32}, {"critic_channels": 32}),
    Row("BYOL U-Net", "systems", "byol-unet", {}, {"arm": "finetuned"}),
    _deepfill("attention, corrected", "attention"),
    _deepfill("attention, published masking", "attention", model={"masking": "published"}),
    _deepfill("attention, propagation off", "attention", model={"fusion": 1}),
    _deepfill("attention, key stride 2", "attention", model={"key_stride": 2}),
    _deepfill("no attention", "attention", model={"branch": "none"}),
    _deepfill("spatial transformer", "attention", model={"branch": "transformer"}),
    _deepfill("appearance flow", "attention", model={"branch": "flow"}),
    _deepfill("reconstruction alone", "losses"),
    _deepfill("plain L1, not discounted", "losses", discount="none"),
    _deepfill("WGAN with masked penalty", "losses", adversary="wgan", **SMALL_CRITIC),
    _deepfill("standard GAN", "losses", adversary="standard", **SMALL_CRITIC),
    _deepfill("LSGAN", "losses", adversary="lsgan", **SMALL_CRITIC),
    _deepfill(
        "WGAN, no L1 on the refined", "losses", adversary="wgan", refined_l1=False, **SMALL_CRITIC
    ),
    _deepfill("with BYOL features", "losses", perceptual_weight=0.1),
    _deepfill("with style of BYOL features", "losses", style_weight=1.0),
    _deepfill("with total variation", "losses", variation_weight=0.01),
    Row("joint, L2 and critic", "context", "context-encoder", WHOLE),
    Row("L2 alone", "context", "context-encoder", WHOLE, {"adversarial_weight": 0.0}),
    Row(
        "L1 alone", "context", "context-encoder", WHOLE,
        {"adversarial_weight": 0.0, "reconstruction": "l1"},
    ),
    Row("joint, with noise input", "context", "context-encoder", WHOLE | {"noise": 100}),
    Row(
        "centre form, critic sees the patch", "context", "context-encoder",
        {"form": "center", "width": 512},
    ),
    Row(
        "centre form, critic sees the context", "context", "context-encoder",
        {"form": "center", "width": 512}, {"critic_sees_context": True},
    ),
    _byol("random encoder", "random"),
    _byol("frozen BYOL encoder", "frozen"),
    _byol("fine-tuned BYOL encoder", "finetuned"),
    _byol("joint, L1 on a tenth of the photographs", "joint", share=1.0, labelled=FEW),
    _byol("random encoder, all photographs", "random", share=1.0),
)  # fmt: skip
"""Every trained row, in the order of the tables."""


@dataclass(frozen=True)
class Claim:
    """A sentence of a founding document that two rows can speak to."""

    text: str
    source: str
    better: str
    """The row that should win."""
    worse: str
    score: Literal["psnr_hole", "l1_hole", "sharpness"] = "psnr_hole"
    kinds: tuple[str, ...] = ()
    """Of damage; empty for all."""
    margin: float = 0.0
    """By how much the first may fall behind: for claims that something loses or brings little."""


LITTLE_DB = 0.1
"""What counts as little."""

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Contextual attention beats the same network without it.", "S2",
        "attention, corrected", "no attention",
    ),
    Claim(
        "Propagation of scores to neighbours helps.", "S2",
        "attention, corrected", "attention, propagation off",
    ),
    Claim(
        "Keys at every second cell lose little.", "S2",
        "attention, key stride 2", "attention, corrected", margin=LITTLE_DB,
    ),
    Claim(
        "Attention is better than a spatial transformer.", "S2",
        "attention, corrected", "spatial transformer",
    ),
    Claim(
        "Attention is better than appearance flow.", "S2",
        "attention, corrected", "appearance flow",
    ),
    Claim(
        "Masking unknown keys by minus infinity is better than by a score of 0.", "ours",
        "attention, corrected", "attention, published masking",
    ),
    Claim(
        "Spatially discounted L1 is better than plain L1.", "S2",
        "reconstruction alone", "plain L1, not discounted",
    ),
    Claim(
        "WGAN is better than a standard GAN.", "S2", "WGAN with masked penalty", "standard GAN"
    ),
    Claim("WGAN is better than LSGAN.", "S2", "WGAN with masked penalty", "LSGAN"),
    Claim(
        "Without L1 on the refined result structure suffers.", "S2",
        "WGAN with masked penalty", "WGAN, no L1 on the refined",
    ),
    Claim(
        "Perceptual terms bring no visible gain.", "S2",
        "reconstruction alone", "with BYOL features", margin=LITTLE_DB,
    ),
    Claim(
        "Style terms bring no visible gain.", "S2",
        "reconstruction alone", "with style of BYOL features", margin=LITTLE_DB,
    ),
    Claim(
        "Total variation brings no visible gain.", "S2",
        "reconstruction alone", "with total variation", margin=LITTLE_DB,
    ),
    Claim(
        "The joint loss is sharper than L2 alone.", "S3, S4",
        "joint, L2 and critic", "L2 alone", "sharpness",
    ),
    Claim(
        "L1 is sharper than L2.", "S4", "L1 alone", "L2 alone", "sharpness",
    ),
    Claim(
        "Noise in the waist brings nothing.", "S3",
        "joint, L2 and critic", "joint, with noise input", margin=LITTLE_DB,
    ),
    Claim(
        "A critic that sees the context is not needed.", "S3",
        "centre form, critic sees the patch", "centre form, critic sees the context",
        kinds=("square56",), margin=LITTLE_DB,
    ),
    Claim(
        "BYOL pre-training helps where images are few.", "S0",
        "fine-tuned BYOL encoder", "random encoder",
    ),
    Claim(
        "It helps on mask shapes that training did not show (trained on boxes).", "S0",
        "fine-tuned BYOL encoder", "random encoder", kinds=("scratch", "irregular20"),
    ),
    Claim(
        "A frozen BYOL encoder is enough.", "S0",
        "frozen BYOL encoder", "fine-tuned BYOL encoder", margin=LITTLE_DB,
    ),
    Claim(
        "Both losses together use unlabelled photographs.", "S0",
        "joint, L1 on a tenth of the photographs", "random encoder",
    ),
)  # fmt: skip
"""What is put to the test."""

MISTAKES: tuple[tuple[str, str, str], ...] = (
    ("S2", "DeepFill v1 has 2.9 M parameters", "3,601,542, counted from its layers (a test)"),
    (
        "S2", "the score of attention is a cosine",
        "only keys are normalised; a cosine times 10 blurs (a test)",
    ),
    (
        "S2", "unknown keys are excluded",
        "the program gives them a score of 0, so weights do not sum to 1 (a test)",
    ),
    ("S2", "the discount is 0.99", "the program has 0.9, and weighs the last row by it (a test)"),
    (
        "S3", "a dense layer would have over 100 M weights",
        "84.9 M; channel-wise 331,776 (a test)",
    ),
    (
        "S4", "0.8 as the second argument of batch normalisation",
        "that is epsilon, not momentum; defaults are used here",
    ),
    (
        "S0", "BYOL learns with negatives, and needs no predictor",
        "there are none; without the predictor it may collapse (training/byol.py --no-predictor)",
    ),
    ("S0", "the method inpaints as described", "no hole is ever cut in its steps"),
    ("S1", "the predictor belongs to the target", "to the online branch (a test)"),
    ("S1", "its example loss is -1.8", "-1.988 by its own formula"),
)  # fmt: skip
"""Statements of the founding documents that are wrong: where, what, and what is so."""
