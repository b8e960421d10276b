"""From a weights file to a ready inpainter: found, checked, and loaded strictly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from restorepix.models.registry import TWO_STAGE, load_network
from restorepix.weights import WeightsFile, find_weights

if TYPE_CHECKING:
    import torch

    from restorepix.models.generator import Generator

ARCHITECTURE: Final = TWO_STAGE
"""Name in the header of files that ``Generator`` loads."""


def load_generator(weights: Path | WeightsFile | None, device: torch.device) -> Generator:
    """An inpainter with its weights in float32, in evaluation mode, on ``device``.

    Args:
        weights: a weights file, one that ``find_weights`` has checked, or None for the bundled
            default.
        device: where to put it.

    Returns:
        Our generator, or for a file of another architecture a module that is called the same way
        (:class:`restorepix.models.registry.Architecture`).

    Raises:
        WeightsError: as ``find_weights``, or tensors missing, left over, or of wrong shape.
    """
    found = weights if isinstance(weights, WeightsFile) else find_weights(weights)
    network = load_network(found.path, found.architecture, found.config, found.tensors)
    return cast("Generator", network.to(device))
