"""From a training checkpoint to a weights file that the package loads, and its manifest entry.

Run: ``python -m training.export runs/inpaint/checkpoint --out weights/inpaint.safetensors``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from restorepix.models.loading import ARCHITECTURE


def export_weights(checkpoint: Path, out: Path, *, attention: bool | None = None) -> str:
    """Write the moving average of a checkpoint as float16 safetensors; returns its sha256.

    Args:
        checkpoint: folder written by ``training.loop``.
        out: file to write; its header carries architecture and config.
        attention: overrides the config's switch; None keeps what training ended with.

    Raises:
        OverflowError: a weight does not fit into float16.
    """
    average = load_file(checkpoint / "ema.safetensors")
    about = json.loads((checkpoint / "state.json").read_text())
    config = about["generator"]
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
        "step": str(about["step"]),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, out, metadata=header)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def main() -> None:
    """Export from the command line and print the digest for the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--attention", choices=("on", "off"))
    options = parser.parse_args()
    attention = None if options.attention is None else options.attention == "on"
    sys.stdout.write(export_weights(options.checkpoint, options.out, attention=attention) + "\n")


if __name__ == "__main__":
    main()
