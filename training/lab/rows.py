"""The rows of the laboratory's table, and the claims that pairs of them put to the test.

The laboratory works in small: photographs of which the shorter side has 128 to 160 px, crops of 64,
networks half as wide as published (what the published sizes cost is measured apart). All rows see
the same photographs and masks from the same seed. Rows of one group differ in one thing.

A trained network is needed before a change of it can tell anything. So the ablations of DeepFill do
not start from nothing: all of them go on from one network, ``START``, for a fifth of its budget;
what is new in a row starts as zeros and does not disturb it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from training.lab.recipe import LabConfig, Recipe

BATCH = 16
CROP_PX = 64
WINDOW_PX = 128
"""Crops of the two context encoders that cannot do with less; they get a quarter of the crops."""

CROPS = 12_000
"""Crops that a whole budget has: 750 steps."""

FEW = 0.1
"""Share of the photographs that rows about few images train on."""

Group = Literal["systems", "attention", "losses", "context", "pretraining"]

GROUPS: dict[Group, str] = {
    "systems": "Systems",
    "attention": "Ablations of DeepFill v1: attention (no critic)",
    "losses": "Ablations of DeepFill v1: losses (no attention)",
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
    """Changes to ``LabConfig``: masks, crop size, share of the photographs."""
    portion: float = 1.0
    """Of the budget of crops."""
    start: str = ""
    """The row whose trained network this one goes on from; empty for random weights."""
    another_seed: bool = False
    """Whether it is another row over again: how far apart equal rows come out."""
    blend: bool = False
    """Whether a second row shows it with Poisson blending."""
    patches: bool = False
    """Whether a second row shows PatchMatch started from it."""

    def build_recipe(self, crops: int, bank: int, seed: int) -> Recipe:
        """The recipe for a whole budget of ``crops`` crops."""
        steps = max(1, int(crops * self.portion) // BATCH)
        config = {
            "batch": BATCH,
            "crop_px": CROP_PX,
            "scale": "smallest",
            "decay": True,
            "bank": bank,
            "seed": seed + self.another_seed,
            **self.lab,
        }
        return Recipe(LabConfig(self.system, steps, **config), self.model, self.training)


START = "DeepFill v1 without attention, L1 alone"
"""The row that ablations of DeepFill go on from."""

HALF = {"channels": 16}
PLAIN = {"adversary": "none", "lr": 1e-3}
CRITIC = {"adversary": "wgan", "critic_steps": 1, "critic_channels": 32, "lr": 5e-4}
"""One critic step a step where the paper has five, which would take most of the time."""
NARROW = {"critic_channels": 32}
WHOLE = {"form": "whole", "waist": "pointwise", "width": 512, "channels": 32}
CENTER = {"form": "center", "width": 512, "channels": 32}
LARGE = {"crop_px": WINDOW_PX}


def _continue(
    name: str, group: Group, branch: str = "none", another_seed: bool = False, *,
    attention: Mapping[str, Any] | None = None, **training: Any,
) -> Row:  # fmt: skip
    """A row that goes on from ``START``; what ``attention`` says belongs to the model."""
    model = HALF | {"branch": branch} | dict(attention or {})
    base = CRITIC if "adversary" in training else PLAIN | {"lr": 5e-4}
    return Row(
        name, group, "deepfill-v1", model, base | training, portion=0.2, start=START,
        another_seed=another_seed,
    )  # fmt: skip


def _context(name: str, another_seed: bool = False, *, noise: int = 0, **training: Any) -> Row:
    model = WHOLE | ({"noise": noise} if noise else {})
    return Row(
        name, "context", "context-encoder", model, NARROW | training, portion=1 / 3,
        another_seed=another_seed,
    )  # fmt: skip


def _byol(name: str, arm: str, another_seed: bool = False, **lab: Any) -> Row:
    few = {"share": FEW, "masks": "box"}
    training = {"arm": arm, "lr": 1e-3}
    return Row(
        name, "pretraining", "byol-unet", {}, training, few | lab, portion=0.5,
        another_seed=another_seed,
    )  # fmt: skip


ROWS: tuple[Row, ...] = (
    Row("restorepix, reconstruction only", "systems", "restorepix", {"attention": False}),
    Row(START, "systems", "deepfill-v1", HALF | {"branch": "none"}, PLAIN),
    _continue("DeepFill v1 baseline, no attention", "systems", adversary="wgan"),
    _continue("DeepFill v1", "systems", "contextual", adversary="wgan"),
    Row(
        "context encoder, AlexNet form", "systems", "context-encoder-alexnet", {},
        {"adversarial_weight": 0.0, "lr": 0.0005}, LARGE, portion=0.25,
    ),
    Row(
        "context encoder, centre form", "systems", "context-encoder", CENTER, NARROW, LARGE,
        portion=0.25,
    ),
    Row("context encoder, any size", "systems", "context-encoder", WHOLE, NARROW, patches=True),
    Row("GLCIC", "systems", "glcic", {"channels": 32}, {"critic_channels": 16}, blend=True),
    Row(
        "Shift-Net", "systems", "shift-net", {"channels": 28, "depth": 5},
        NARROW | {"lr": 1e-3},
    ),
    Row("BYOL U-Net", "systems", "byol-unet", {}, {"arm": "finetuned", "lr": 1e-3}),
    _continue("attention, corrected", "attention", "contextual"),
    _continue(
        "attention, published masking", "attention", "contextual",
        attention={"masking": "published"},
    ),
    _continue("attention, propagation off", "attention", "contextual", attention={"fusion": 1}),
    _continue("attention, key stride 2", "attention", "contextual", attention={"key_stride": 2}),
    _continue("no attention", "attention"),
    _continue("no attention, another seed", "attention", another_seed=True),
    _continue("spatial transformer", "attention", "transformer"),
    _continue("appearance flow", "attention", "flow"),
    _continue("reconstruction alone", "losses"),
    _continue("reconstruction alone, another seed", "losses", another_seed=True),
    _continue("plain L1, not discounted", "losses", discount="none"),
    _continue("WGAN with masked penalty", "losses", adversary="wgan"),
    _continue("standard GAN", "losses", adversary="standard"),
    _continue("LSGAN", "losses", adversary="lsgan"),
    _continue("WGAN, no L1 on the refined", "losses", adversary="wgan", refined_l1=False),
    _continue("with BYOL features", "losses", perceptual_weight=0.1),
    _continue("with style of BYOL features", "losses", style_weight=1.0),
    _continue("with total variation", "losses", variation_weight=0.01),
    _context("joint, L2 and critic"),
    _context("L2 alone", adversarial_weight=0.0),
    _context("L2 alone, another seed", True, adversarial_weight=0.0),
    _context("L1 alone", adversarial_weight=0.0, reconstruction="l1"),
    _context("joint, with noise input", noise=100),
    Row(
        "centre form, critic sees the patch", "context", "context-encoder", CENTER, NARROW, LARGE,
        portion=0.25,
    ),
    Row(
        "centre form, critic sees the context", "context", "context-encoder", CENTER,
        NARROW | {"critic_sees_context": True}, LARGE, portion=0.25,
    ),
    _byol("random encoder", "random"),
    _byol("random encoder, another seed", "random", True),
    _byol("frozen BYOL encoder", "frozen"),
    _byol("fine-tuned BYOL encoder", "finetuned"),
    _byol("joint, L1 on a tenth of the photographs", "joint", share=1.0, labelled=FEW, views=128),
    _byol("random encoder, all photographs", "random", share=1.0),
)  # fmt: skip
"""Every trained row, in the order of the tables."""

TWINS: Mapping[Group, tuple[str, str]] = {
    "attention": ("no attention", "no attention, another seed"),
    "losses": ("reconstruction alone", "reconstruction alone, another seed"),
    "context": ("L2 alone", "L2 alone, another seed"),
    "pretraining": ("random encoder", "random encoder, another seed"),
}
"""Rows that differ in nothing but the seed: a difference of that size tells nothing."""


PUBLISHED: Mapping[str, str] = {
    "deepfill-v1": "DeepFill v1",
    "context-encoder": "context encoder, any size",
    "glcic": "GLCIC",
    "shift-net": "Shift-Net",
    "byol-unet": "BYOL U-Net",
}
"""Rows whose weights ``restorepix fix --model NAME`` takes, by that name. The AlexNet and the
centre form are left out: their files are larger than the 8 MB that one may have."""


def find_row(name: str) -> Row:
    """The row of a name.

    Raises:
        KeyError: there is none.
    """
    return {row.name: row for row in ROWS}[name]


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
        kinds=("square40",), margin=LITTLE_DB,
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
        "there are none; without the predictor 500 steps end in a point (a test)",
    ),
    ("S0", "the method inpaints as described", "no hole is ever cut in its steps"),
    ("S1", "the predictor belongs to the target", "to the online branch (a test)"),
    ("S1", "its example loss is -1.8", "-1.988 by its own formula"),
)  # fmt: skip
"""Statements of the founding documents that are wrong: where, what, and what is so."""
