"""What a recipe of the laboratory says: the system, its budget, its masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

DEFAULT_SYSTEM = "restorepix"
"""The package's own generator, trained here by reconstruction alone, as a row to compare with."""


@dataclass(frozen=True)
class LabConfig:
    """One run; every field is read from the recipe's ``[lab]`` table."""

    system: str
    """A name of ``LAB_MODELS``, or ``restorepix``."""
    steps: int
    """Steps of the generator."""
    batch: int = 16
    """Samples a step."""
    crop_px: int = 128
    """Side of the square crops."""
    masks: str = "damage"
    """``damage`` is the mix that the default inpainter trains on; ``box`` DeepFill's boxes;
    ``center``, ``blocks`` and ``region`` those of context encoders."""
    bank: int = 4096
    """Masks that are drawn, once."""
    scale: Literal["all", "smallest"] = "all"
    """Of the sizes that the cache has of each photograph, those that crops are cut from."""
    share: float = 1.0
    """Of the photographs that are used, spread over the cache."""
    views: int = 0
    """Samples of BYOL's batches in the joint arm, which wants more of them than L1; 0 for one batch
    that serves both."""
    labelled: float = 1.0
    """Of the photographs that the joint BYOL arm's L1 sees."""
    seed: int = 1
    """Of initial weights, masks and batches."""
    threads: int = 1
    """CPU threads."""
    bf16: bool = True
    """Autocast generators to bfloat16."""
    decay: bool = False
    """As ``LabTrainer.decay``."""


@dataclass(frozen=True)
class Recipe:
    """A run with its system's own settings."""

    lab: LabConfig
    model: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the system's config."""
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the system's training settings."""
