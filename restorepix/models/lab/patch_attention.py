"""Contextual attention as published, with its mistakes corrected or, on request, kept.

Yu et al., "Generative Image Inpainting with Contextual Attention" (CVPR 2018), section 3.2. Every
cell of the half grid is matched with 3x3 patches of known background (eq. 3), scores are propagated
along diagonals so that neighbours copy from neighbours (eq. 4), and the cell is rebuilt as a
weighted sum of 4x4 patches. Facts of the published program that its paper does not say, or says
differently, are options of ``AttentionOptions``:

* only keys are normalised, so the score is no cosine;
* scores are propagated before the softmax;
* a key that touches the hole gets the score 0, not minus infinity ("published" masking), so weights
  over known keys do not sum to one; and overlaps are divided by 4 even where fewer patches meet;
* propagation runs over flattened rows, so it wraps from the end of one row to the next.

Propagation by k costs passes over the largest tensor there is, the scores. Its sums can also be had
from the matching itself, by comparing weighted patches of k + 2 cells (``cut_patches``).

``restorepix.models.attention`` is the production form (hole cells only, no propagation); this one
is for learning and for parity.

Shapes: B batch; h, w the half grid; N = h*w queries; K keys; V value size (16 x channels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Masking = Literal["published", "corrected"]
Propagation = Literal["exact", "window"]


@dataclass(frozen=True)
class AttentionOptions:
    """How cells are matched and rebuilt."""

    fusion: int = 3
    """Side of the propagation kernel k (eq. 4): 1 is off; odd."""
    key_stride: int = 1
    """Keys are taken at every so many cells; 1 compares with all of them. A larger stride divides
    the score matrix by its square, the paper's first way to save memory."""
    masking: Masking = "corrected"
    """``corrected``: unknown keys get minus infinity, overlaps are divided by their true count,
    and masks shrink by maximum. ``published``: a score of 0, a division by 4, nearest."""
    wrap: bool = False
    """Let propagation run over the ends of rows and columns, as the published program does."""
    propagation: Propagation = "exact"
    """``exact`` adds up shifted scores (eq. 4). ``window`` matches larger patches in their place:
    the same sums except near borders, but keys are normalised as one window, not patch by patch."""
    cosine: bool = False
    """Normalise queries too (eq. 3 as printed); ``scale`` then wants to be 100 or more, since a
    cosine times 10 blurs."""
    scale: float = 10.0
    """The softmax's inverse temperature lambda."""
    strip: int = 0
    """Rows of queries worked on at a time; 0 for all. Bounds memory, changes no result."""

    def __post_init__(self) -> None:
        """Refuse sizes that mean nothing.

        Raises:
            ValueError: an even or non-positive ``fusion``, ``key_stride`` below 1, a ``masking`` or
                ``propagation`` of another name, or ``wrap`` with what it cannot work with.
        """
        if self.fusion < 1 or self.fusion % 2 == 0:
            msg = f"fusion must be odd and 1 or more, found {self.fusion}"
            raise ValueError(msg)
        if self.key_stride < 1:
            msg = f"key_stride must be 1 or more, found {self.key_stride}"
            raise ValueError(msg)
        if self.masking not in ("published", "corrected"):
            msg = f"masking must be published or corrected, found {self.masking!r}"
            raise ValueError(msg)
        if self.propagation not in ("exact", "window"):
            msg = f"propagation must be exact or window, found {self.propagation!r}"
            raise ValueError(msg)
        if self.wrap and (self.strip or self.key_stride > 1 or self.propagation == "window"):
            msg = (
                "wrap needs all rows, all keys and their scores at once: leave strip at 0, "
                "key_stride at 1, propagation exact"
            )
            raise ValueError(msg)


class Attended(NamedTuple):
    """What attention made of a feature map."""

    features: Tensor
    """(B, C, H, W), every cell rebuilt; a sample without a valid key is returned unchanged."""
    offsets: Tensor
    """(B, 2, h, w) int64: row and column of the best key minus those of the query, in cells."""


def halve_mask(mask: Tensor, masking: Masking) -> Tensor:
    """(B, 1, H, W) in {0, 1} to half the size: any hole counts, or (published) every second pixel.

    Every second pixel loses a scratch of one pixel.
    """
    return mask[..., ::2, ::2] if masking == "published" else functional.max_pool2d(mask, 2)


def find_valid_keys(mask: Tensor, options: AttentionOptions) -> Tensor:
    """Which keys are known: their whole 3x3 patch is outside the hole.

    Args:
        mask: (B, 1, H, W) float in {0, 1} at the resolution of the features, 1 = hole.
        options: their ``masking`` and ``key_stride``.

    Returns:
        (B, K) bool.
    """
    half = halve_mask(mask, options.masking)
    near = functional.max_pool2d(half, 3, 1, 1)  # pads with minus infinity: outside is no hole
    stride = options.key_stride
    return (near[..., ::stride, ::stride] == 0).flatten(1)


def cut_patches(features: Tensor, size: int = 1) -> Tensor:
    """Patches whose dot products are the scores that propagation by ``size`` adds up.

    Two patches of 3x3 cells, and those at k x k offsets from them that are shifted together, share
    cells. Counting each pair of cells as often as it occurs leaves one pair of patches of k + 2
    cells a side, weighted 1 2 3 2 1 along each axis for k = 3: the box of k convolved with the box
    of 3. Half of the weight, its root, goes to either patch. At the border propagation leaves out
    pairs that leave the grid, while a patch only loses the cells that do.

    Args:
        features: (B, C, h, w).
        size: the k of propagation; 1 for plain 3x3 patches.

    Returns:
        (B, h*w, C * (size + 2)^2), zero outside the grid.
    """
    side = size + 2
    counts = functional.conv1d(
        features.new_ones(1, 1, size), features.new_ones(1, 1, 3), padding=2
    ).flatten()
    root = torch.outer(counts, counts).sqrt().flatten()
    patches = functional.unfold(features, side, padding=side // 2)
    shape = (len(patches), features.shape[1], side * side, -1)
    return (patches.view(shape) * root[:, None]).flatten(1, 2).transpose(1, 2)


def propagate(scores: Tensor, size: int, step: int = 1) -> Tensor:
    """Add to every score those of the pairs shifted together: eq. 4, left-right then up-down.

    Args:
        scores: (B, h, w, u, v): query row and column, key row and column.
        size: side k of the kernel; offsets run from -(k // 2) to k // 2.
        step: cells that a query moves while its key moves by one of the key grid.

    Returns:
        The same shape; pairs that leave either grid add nothing.
    """
    for query_axis, key_axis in ((2, 4), (1, 3)):
        total = scores
        for offset in range(1, size // 2 + 1):
            for sign in (-1, 1):
                total = total + _shift_pair(
                    scores, query_axis, key_axis, sign * offset * step, sign * offset
                )
        scores = total
    return scores


def _shift_pair(
    scores: Tensor, query_axis: int, key_axis: int, query_shift: int, key_shift: int
) -> Tensor:
    """``scores`` at (p + query_shift, q + key_shift), zero where that leaves the grid."""
    shifted = torch.zeros_like(scores)
    source, target = [slice(None)] * 5, [slice(None)] * 5
    for axis, shift in ((query_axis, query_shift), (key_axis, key_shift)):
        if abs(shift) >= scores.shape[axis]:
            return shifted
        low, high = (shift, None) if shift > 0 else (None, shift)
        source[axis] = slice(low, high)
        target[axis] = slice(None, -shift) if shift > 0 else slice(-shift, None)
    shifted[tuple(target)] = scores[tuple(source)]
    return shifted


def propagate_wrapped(scores: Tensor, size: int) -> Tensor:
    """As ``propagate`` over flattened grids: the published quirk, in which row ends meet."""
    for columns_first in (False, True):
        if columns_first:
            scores = scores.permute(0, 2, 1, 4, 3)
        shape = scores.shape
        flat = scores.reshape(shape[0], shape[1] * shape[2], shape[3] * shape[4])
        total = flat
        for offset in range(1, size // 2 + 1):
            before, after = flat[:, :-offset, :-offset], flat[:, offset:, offset:]
            total = total + functional.pad(before, (offset, 0, offset, 0))
            total = total + functional.pad(after, (0, offset, 0, offset))
        scores = total.reshape(shape)
    return scores.permute(0, 2, 1, 4, 3)


def contextual_attention(
    foreground: Tensor, background: Tensor, mask: Tensor, options: AttentionOptions
) -> Attended:
    """Rebuild every cell of ``foreground`` from known patches of ``background``.

    Args:
        foreground: (B, C, H, W) float features that ask; H and W even.
        background: (B, C, H, W) float features that are copied; the network passes one map twice.
        mask: (B, 1, H, W) float in {0, 1}, 1 = hole, each sample its own.
        options: see there.
    """
    height, width = foreground.shape[-2:]
    rows, columns = height // 2, width // 2
    stride = options.key_stride
    key_rows, key_columns = -(-rows // stride), -(-columns // stride)

    def take_keys(patches: Tensor) -> Tensor:  # (B, V, N) -> (B, K, V)
        grid = patches.reshape(*patches.shape[:2], rows, columns)[..., ::stride, ::stride]
        return grid.flatten(2).transpose(1, 2)

    # Corrected: replicated borders, so that a patch copied from the edge carries no padding along.
    border = "constant" if options.masking == "published" else "replicate"
    framed = functional.pad(background, (1, 1, 1, 1), mode=border)
    values = take_keys(functional.unfold(framed, 4, stride=2))
    by_window = options.propagation == "window"
    size = options.fusion if by_window else 1
    keys = take_keys(cut_patches(background[..., ::2, ::2], size).transpose(1, 2))
    # k x k patches have about k times the norm of one; this keeps the scores' scale.
    keys = size * functional.normalize(keys, dim=-1, eps=1e-4)
    queries = cut_patches(foreground[..., ::2, ::2], size)
    if options.cosine:
        queries = functional.normalize(queries, dim=-1, eps=1e-4)
    query_grid = queries.reshape(len(queries), rows, columns, -1)
    valid = find_valid_keys(mask, options)

    strip = options.strip or rows
    halo = 0 if by_window else options.fusion // 2 * stride
    rebuilt: list[Tensor] = []
    best: list[Tensor] = []
    for top in range(0, rows, strip):
        bottom = min(top + strip, rows)
        first, last = max(0, top - halo), min(rows, bottom + halo)
        scores = query_grid[:, first:last].flatten(1, 2) @ keys.transpose(1, 2)
        scores = scores.reshape(-1, last - first, columns, key_rows, key_columns)
        if options.fusion > 1 and not by_window:
            scores = (
                propagate_wrapped(scores, options.fusion)
                if options.wrap
                else propagate(scores, options.fusion, stride)
            )
        scores = scores[:, top - first : bottom - first].flatten(3).flatten(1, 2)
        weights = weigh_keys(scores, valid[:, None], options)
        rebuilt.append(weights @ values)
        best.append(weights.detach().argmax(-1))
    patches = torch.cat(rebuilt, 1).transpose(1, 2)
    features = _overlap_add(patches, height, width, options.masking)
    if options.masking == "corrected":
        features = features.where(valid.any(1)[:, None, None, None], background)
    return Attended(features, _find_offsets(torch.cat(best, 1), rows, columns, stride))


def weigh_keys(scores: Tensor, valid: Tensor, options: AttentionOptions) -> Tensor:
    """Softmax over keys: (B, N, K) scores and (B, 1, K) bool ``valid`` -> (B, N, K) weights."""
    logits = scores * options.scale
    if options.masking == "published":
        return torch.softmax(logits * valid, -1) * valid
    # A sample without a valid key must not give NaN; its result is replaced by the caller.
    some = valid.any(-1, keepdim=True)
    return torch.softmax(logits.masked_fill(~valid & some, -math.inf), -1)


def _overlap_add(patches: Tensor, height: int, width: int, masking: Masking) -> Tensor:
    """(B, V, N) 4x4 patches summed to (B, C, H, W) and divided by their overlap."""
    summed = functional.fold(patches, (height, width), 4, padding=1, stride=2)
    if masking == "published":
        return summed / 4
    ones = patches.new_ones(1, 16, patches.shape[-1])
    return summed / functional.fold(ones, (height, width), 4, padding=1, stride=2)


def _find_offsets(best: Tensor, rows: int, columns: int, stride: int) -> Tensor:
    """(B, N) indices of keys -> (B, 2, rows, columns) offsets from the query, in cells."""
    key_columns = -(-columns // stride)
    key = torch.stack([best // key_columns, best % key_columns], 1) * stride
    query = torch.arange(rows * columns, device=best.device)
    offsets = key - torch.stack([query // columns, query % columns])
    return offsets.reshape(len(best), 2, rows, columns)
