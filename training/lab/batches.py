"""Batches of a run: which photographs, at which of their sizes, under which masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training.data import Batches
from training.lab import masks
from training.lab.recipe import LabConfig
from training.lab.trainer import Draw
from training.masks import Mask, build_mask_bank, find_fonts

MASK_KINDS = ("damage", "box", "center", "blocks", "region")


def build_bank(config: LabConfig, elements: Sequence[Mask] = ()) -> Tensor:
    """(bank, S, S) uint8 masks of the recipe's kind.

    Raises:
        ValueError: a kind of another name.
    """
    side, count = config.crop_px, config.bank
    if config.masks == "damage":
        bank = build_mask_bank(side, count, config.seed, fonts=find_fonts(), elements=elements)
        return torch.from_numpy(bank)
    if config.masks not in MASK_KINDS:
        msg = f"masks must be one of {', '.join(MASK_KINDS)}, found {config.masks!r}"
        raise ValueError(msg)
    rng = np.random.default_rng(config.seed)
    draw = {
        "box": lambda: masks.draw_deepfill_box(side, rng),
        "center": lambda: masks.draw_center(side),
        "blocks": lambda: masks.draw_blocks(side, rng),
        "region": lambda: masks.draw_region(side, rng),
    }[config.masks]
    return torch.from_numpy(np.stack([draw() for _ in range(count)]))


def open_batches(config: LabConfig, pixels: Tensor, index: Tensor, bank: Tensor) -> Draw:
    """Batches of a run by number; in the joint BYOL arm those of BYOL."""
    return _open(config, pixels, index, bank, config.share, config.views or config.batch)


def open_labelled(config: LabConfig, pixels: Tensor, index: Tensor, bank: Tensor) -> Draw | None:
    """Batches of the joint BYOL arm's L1, or None where BYOL's serve both."""
    if config.labelled == 1 and not config.views:
        return None
    return _open(config, pixels, index, bank, config.labelled, config.batch)


def _open(
    config: LabConfig, pixels: Tensor, index: Tensor, bank: Tensor, share: float, batch: int
) -> Draw:
    chosen = pick_photographs(index, share)
    if config.scale == "smallest":
        chosen = pick_smallest(chosen)
    return Batches(pixels, chosen, bank.to(pixels.device), batch, config.seed).draw


def pick_photographs(index: Tensor, share: float) -> Tensor:
    """Rows of a cache's index that belong to an even ``share`` of its photographs.

    A photograph is stored at several scales, largest first, so a row starts a new one where the
    area does not shrink. (Two neighbours of which the second is smaller count as one.)

    Args:
        index: (P, 3) int64 rows: offset, height, width.
        share: in (0, 1].
    """
    starts = _find_starts(index)
    photograph = starts.long().cumsum(0) - 1
    # Photograph k is taken when k * share passes a whole number.
    taken = (photograph + 1).double().mul(share).floor() > photograph.double().mul(share).floor()
    if not bool(taken.any()):
        taken = photograph == 0
    return index[taken]


def pick_smallest(index: Tensor) -> Tensor:
    """The last row of each photograph in a cache's index, which has it at its smallest."""
    starts = _find_starts(index)
    return index[starts.roll(-1)]  # where the next one starts; after the last comes the first


def _find_starts(index: Tensor) -> Tensor:
    """(P,) bool: rows of a cache's index with which a photograph starts."""
    area = index[:, 1] * index[:, 2]
    starts = torch.ones(len(index), dtype=torch.bool)
    starts[1:] = area[1:] >= area[:-1]
    return starts
