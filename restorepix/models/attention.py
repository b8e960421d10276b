"""Contextual attention: every hole cell is rebuilt from patches of known background.

After Yu et al., "Generative Image Inpainting with Contextual Attention" (CVPR 2018), section 3.2,
with these differences: queries and keys are both normalised (true cosine similarity) and scaled by
a learnable temperature; invalid keys are masked with minus infinity, so weights over valid keys
sum to one; overlapping value patches are divided by their true count; masks are pooled by
maximum, so a one-pixel scratch is never lost; only cells that touch the hole are computed.

Geometry: the feature map has H x W cells, H and W even. Keys and queries are 3x3 patches of the
match features at every second cell (the half grid, h = H/2, w = W/2). Values are 4x4 patches of
the full feature map with stride 2 and padding 1, one per cell of the half grid.

Shape suffixes: B batch, N = h*w half-grid cells, Q queries, M match size (9 x match channels),
V value size (16 x channels).
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

DEFAULT_BLOCK = 256
"""Queries a block: scores of a block against 4,096 keys take 4 MiB in float32."""


def find_cells(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Which half-grid cells must be rebuilt, and which may serve as background.

    Args:
        mask: (B, 1, H, W) float in {0, 1} at feature resolution, 1 = hole; H, W even.

    Returns:
        ``need`` (B, N) bool: the cell's 4x4 value footprint touches the hole.
        ``valid`` (B, N) bool: it does not; the two are complements.
    """
    padded = functional.pad(mask, (1, 1, 1, 1))
    need = functional.max_pool2d(padded, 4, 2).flatten(1) > 0
    return need, ~need


def extract_patches(features: Tensor, match: Tensor) -> tuple[Tensor, Tensor]:
    """Unit-length match patches and raw value patches of every half-grid cell.

    Args:
        features: (B, C, H, W) float, H and W even.
        match: (B, K, H, W) float features in which cells are compared.

    Returns:
        ``matches_BNM`` (B, N, 9K), each row of Euclidean length one (zero rows stay zero);
        ``values_BNV`` (B, N, 16C).
    """
    matches = functional.unfold(match[..., ::2, ::2], 3, padding=1).transpose(1, 2)
    matches = functional.normalize(matches, dim=-1, eps=1e-4)
    # Replicated, not zero, borders: a patch copied from the edge must not carry padding with it.
    framed = functional.pad(features, (1, 1, 1, 1), mode="replicate")
    values = functional.unfold(framed, 4, stride=2).transpose(1, 2)
    return matches, values


def overlap_add(patches: Tensor, height: int, width: int) -> Tensor:
    """(B, V, N) value patches summed back to (B, C, H, W), divided by the true overlap count."""
    summed = functional.fold(patches, (height, width), 4, padding=1, stride=2)
    ones = patches.new_ones(1, 16, patches.shape[-1])
    return summed / functional.fold(ones, (height, width), 4, padding=1, stride=2)


def attend_dense(features: Tensor, match: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    """Reference: every cell is rebuilt from all valid cells, with the full score matrix.

    Args:
        features: (B, C, H, W) float, H and W even.
        match: (B, K, H, W) float.
        mask: (B, 1, H, W) float in {0, 1}, 1 = hole.
        scale: scalar, the softmax's inverse temperature.

    Returns:
        (B, C, H, W): rebuilt features where ``mask`` is 1, ``features`` elsewhere; a sample with
        no valid cell returns ``features`` unchanged.
    """
    height, width = features.shape[-2:]
    _, valid = find_cells(mask)
    matches, values = extract_patches(features, match)
    scores = (scale * matches) @ matches.transpose(1, 2)
    scores = scores.masked_fill(~valid[:, None, :], -math.inf)
    some = valid.any(dim=1)[:, None, None]
    weights = torch.softmax(torch.where(some, scores, torch.zeros_like(scores)), dim=-1)
    rebuilt = overlap_add((weights @ values).transpose(1, 2), height, width)
    return torch.where((mask > 0) & some[..., None], rebuilt, features)


def _attend_block(queries: Tensor, keys: Tensor, bias: Tensor, values: Tensor) -> Tensor:
    """(Q, M) queries against (N, M) keys; ``bias`` (N,) is 0 for valid keys, -inf for others."""
    scores = (queries @ keys.T).to(bias.dtype) + bias
    return torch.softmax(scores, dim=-1).to(values.dtype) @ values


def attend_hole(
    features: Tensor, match: Tensor, mask: Tensor, scale: Tensor, block: int = DEFAULT_BLOCK
) -> Tensor:
    """Production: as ``attend_dense``, computing only the cells that touch the hole.

    Queries go in blocks of exactly ``block`` rows (the last one padded), so shapes depend on
    the window alone and memory grows with hole cells, not with the square of the picture. In
    training each block is recomputed in the backward pass.

    Args and Returns: as ``attend_dense``; ``block`` is queries a block.
    """
    height, width = features.shape[-2:]
    need, valid = find_cells(mask)
    matches, values = extract_patches(features, match)
    # Softmax in float32 at least, whatever precision the features are in.
    precise = torch.promote_types(features.dtype, torch.float32)
    bias = torch.zeros(valid.shape, dtype=precise, device=features.device)
    bias = bias.masked_fill(~valid, -math.inf)
    outputs: list[Tensor] = []
    for index in range(features.shape[0]):
        cells = need[index].nonzero().squeeze(1)
        if len(cells) == 0 or not bool(valid[index].any()):
            outputs.append(features[index])
            continue
        padding = -len(cells) % block
        queries = functional.pad(scale * matches[index, cells], (0, 0, 0, padding))
        parts: list[Tensor] = []
        for part in torch.split(queries, block):
            arguments = (part, matches[index], bias[index], values[index])
            if torch.is_grad_enabled() and features.requires_grad:
                parts.append(
                    cast(Tensor, checkpoint(_attend_block, *arguments, use_reentrant=False))
                )
            else:
                parts.append(_attend_block(*arguments))
        rebuilt = torch.cat(parts)[: len(cells)]
        patches = torch.zeros_like(values[index]).index_copy(0, cells, rebuilt)
        whole = overlap_add(patches.T[None], height, width)
        outputs.append(torch.where(mask[index] > 0, whole[0], features[index]))
    return torch.stack(outputs)


class ContextualAttention(nn.Module):
    """Attention with its own match projection and learnable temperature."""

    def __init__(self, channels: int, match_channels: int) -> None:
        """Compare cells of a (B, ``channels``, H, W) map in ``match_channels`` of them."""
        super().__init__()
        self.match = nn.Conv2d(channels, match_channels, 1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def forward(self, features: Tensor, mask: Tensor, block: int = DEFAULT_BLOCK) -> Tensor:
        """(B, C, H, W) features and (B, 1, H, W) mask in {0, 1} -> attended (B, C, H, W)."""
        scale = self.log_scale.exp().clamp(max=200.0).to(features.dtype)
        return attend_hole(features, self.match(features), mask, scale, block)

    def find_offsets(self, features: Tensor, mask: Tensor) -> Tensor:
        """How far away each cell that touches the hole finds the cell that it weighs most.

        Args:
            features: (B, ``channels``, H, W) float, H and W even.
            mask: (B, 1, H, W) float in {0, 1}, 1 = hole.

        Returns:
            (B, 2, H/2, W/2) float32 rows and columns to go, in cells of the half grid; NaN at
            cells that do not touch the hole, and everywhere in a sample without a valid cell.
        """
        columns = features.shape[-1] // 2
        need, valid = find_cells(mask)
        matches, _ = extract_patches(features, self.match(features))
        offsets = features.new_full((*need.shape, 2), math.nan, dtype=torch.float32)
        for index in range(len(features)):
            cells = need[index].nonzero().squeeze(1)
            if len(cells) == 0 or not bool(valid[index].any()):
                continue
            scores = (matches[index, cells] @ matches[index].T).float()
            best = scores.masked_fill(~valid[index], -math.inf).argmax(dim=1)
            rows = best // columns - cells // columns
            offsets[index, cells] = torch.stack([rows, best % columns - cells % columns], 1).float()
        return offsets.transpose(1, 2).reshape(len(features), 2, -1, columns)
