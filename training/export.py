"""From a training checkpoint to a weights file that the package loads, and its manifest entry.

Run: ``python -m training.export runs/inpaint/checkpoint --out weights/inpaint.safetensors``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from restorepix.models.generator import GeneratorConfig
from restorepix.models.loading import ARCHITECTURE

THIN_PX = 17
"""Side of a square that tells wide holes: lost blocks of 16 px still count as thin."""


def export_weights(
    checkpoint: Path,
    out: Path,
    *,
    attention: bool | None = None,
    thin: Path | None = None,
    thin_px: int = THIN_PX,
) -> str:
    """Write the moving average of a checkpoint as float16 safetensors; returns its sha256.

    Args:
        checkpoint: folder written by ``training.loop``.
        out: file to write; its header carries architecture and config.
        attention: overrides the config's switch; None keeps what training ended with.
        thin: checkpoint of a second set of weights, for windows whose holes are thin.
        thin_px: how wide a hole is too wide for them.

    Raises:
        OverflowError: a weight does not fit into float16.
        ValueError: the second set is of another size, or works at several levels.
    """
    average, config, step = _read(checkpoint)
    if thin is not None:
        second, other, _ = _read(thin)
        if {**config, "levels": 1} != other:
            msg = f"{thin}: expected the layers of {checkpoint} at one level, found {other}"
            raise ValueError(msg)
        average |= {f"thin.{name}": tensor for name, tensor in second.items()}
        config["thin_px"] = thin_px
    if attention is not None:
        config["attention"] = attention
    half = {name: tensor.to(torch.float16) for name, tensor in average.items()}
    for name, tensor in half.items():
        if not bool(torch.isfinite(tensor).all()):
            msg = f"{checkpoint}: {name} does not fit into float16; export it in float32"
            raise OverflowError(msg)
    header = {
        "architecture": ARCHITECTURE,
        "config": json.dumps(config),
        "step": str(step),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, out, metadata=header)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def _read(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any], int]:
    """The moving average of a checkpoint, its generator's config its step."""
    about = json.loads((checkpoint / "state.json").read_text())
    config = asdict(GeneratorConfig.from_mapping(about["generator"]))
    return load_file(checkpoint / "ema.safetensors"), config, about["step"]


def main() -> None:
    """Export from the command line and print the digest for the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--attention", choices=("on", "off"))
    parser.add_argument("--thin", type=Path, help="checkpoint of the weights for thin holes")
    parser.add_argument("--thin-px", type=int, default=THIN_PX)
    options = parser.parse_args()
    attention = None if options.attention is None else options.attention == "on"
    digest = export_weights(
        options.checkpoint, options.out,
        attention=attention, thin=options.thin, thin_px=options.thin_px,
    )  # fmt: skip
    sys.stdout.write(digest + "\n")


if __name__ == "__main__":
    main()
