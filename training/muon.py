"""Muon: momentum whose update is orthogonalised, for the weights of convolutions.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). A convolution's
(O, I, kH, kW) weight counts as an (O, I kH kW) matrix; its momentum is replaced by the nearest
semi-orthogonal matrix, found by five steps of a quintic Newton-Schulz iteration in bfloat16, and
scaled by ``0.2 sqrt(max(rows, columns))``, which gives updates of AdamW's usual size (Liu et al.,
"Muon is Scalable for LLM Training", 2025, section 2.2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Each matrix with its singular values moved close to 1.

    Args:
        matrices: (B, R, C) float.
        steps: Newton-Schulz iterations; five bring singular values into about [0.7, 1.2].

    Returns:
        (B, R, C) of the same dtype.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    State per parameter: ``exp_avg``, the momentum, of the parameter's shape.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        """Take parameters of two or more dimensions, or groups of them."""
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; shapes in common are batched."""
        for group in self.param_groups:
            same: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    same[parameter.shape[0], parameter[0].numel()].append(parameter)
            for (rows, columns), members in same.items():
                updates: list[Tensor] = []
                for parameter in members:
                    state = self.state[parameter]
                    if "exp_avg" not in state:
                        state["exp_avg"] = torch.zeros_like(parameter)
                    gradient = parameter.grad
                    assert gradient is not None
                    momentum = state["exp_avg"].lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(momentum, group["momentum"]).reshape(rows, -1))
                stacked = orthogonalise(torch.stack(updates).bfloat16()).to(updates[0].dtype)
                scale = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                for parameter, update in zip(members, stacked, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update.view_as(parameter), alpha=-scale)
