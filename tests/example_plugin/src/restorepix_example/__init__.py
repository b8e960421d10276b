"""Two architectures for restorepix: how a package plugs in a network of its own.

What restorepix needs is an ``Architecture`` for each (the entry points of pyproject.toml name
them) and a safetensors file whose header names the architecture and holds its config::

    python -m restorepix_example mean.safetensors bright.safetensors
    restorepix fix photos/ --mask masks/ --weights mean.safetensors
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from restorepix.models.registry import Architecture

if TYPE_CHECKING:
    from torch import nn


def build_mean(config: Mapping[str, Any]) -> nn.Module:
    """The network of ``example-mean-1``; torch is imported when it is built, not before."""
    from restorepix_example.networks import MeanColour

    return MeanColour(**config)


def build_bright(config: Mapping[str, Any]) -> nn.Module:
    """The network of ``example-bright-1``."""
    from restorepix_example.networks import Bright

    return Bright(**config)


MEAN = Architecture("example-mean-1", "inpainter", build_mean)
BRIGHT = Architecture("example-bright-1", "detector", build_bright)
