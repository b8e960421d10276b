"""Checkpoints of the detector and BYOL runs, in the format of ``training.loop``.

A folder of safetensors files (networks by name, two optimizer moments) and one JSON file, written
whole or not at all; no pickle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")


def save_checkpoint(
    folder: Path,
    networks: Mapping[str, nn.Module],
    optimizer: torch.optim.AdamW,
    parameters: Mapping[str, nn.Parameter],
    about: Mapping[str, Any],
) -> None:
    """Write a checkpoint that replaces the one in ``folder`` as a whole.

    Args:
        folder: the checkpoint.
        networks: written as ``NAME.safetensors`` each, buffers too.
        optimizer: whose moments are written.
        parameters: every parameter of the optimizer by a name that stays the same.
        about: JSON values for ``state.json``: the step, the configs.
    """
    fresh = folder.with_name(folder.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, network in networks.items():
        save_file(_plain(network.state_dict()), fresh / f"{name}.safetensors")
    active = {name: item for name, item in parameters.items() if item in optimizer.state}
    for moment in MOMENTS:
        states = {name: optimizer.state[item][moment] for name, item in active.items()}
        save_file(_plain(states), fresh / f"{moment}.safetensors")
    steps = {name: int(optimizer.state[item]["step"]) for name, item in active.items()}
    text = json.dumps({**about, "optimizer_steps": steps}, indent=1)
    (fresh / "state.json").write_text(text)
    # state.json was written last: with it, the new folder is whole even without this rename.
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def find_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run folder, or None.

    The second place looked at serves a run that was killed between removing the old checkpoint
    and renaming the new one.
    """
    for folder in (run / "checkpoint", run / "checkpoint.part"):
        if (folder / "state.json").is_file():
            return folder
    return None


def load_checkpoint(
    folder: Path,
    networks: Mapping[str, nn.Module],
    optimizer: torch.optim.AdamW,
    parameters: Mapping[str, nn.Parameter],
) -> dict[str, Any]:
    """Put a checkpoint's tensors into networks and optimizer; returns what ``about`` was."""
    for name, network in networks.items():
        network.load_state_dict(load_file(folder / f"{name}.safetensors"))
    moments = {moment: load_file(folder / f"{moment}.safetensors") for moment in MOMENTS}
    about: dict[str, Any] = json.loads((folder / "state.json").read_text())
    for name, parameter in parameters.items():
        if name not in moments["exp_avg"]:
            continue
        state: dict[str, Tensor] = {"step": torch.tensor(float(about["optimizer_steps"][name]))}
        for moment in MOMENTS:
            state[moment] = torch.empty_like(parameter).copy_(moments[moment][name])
        optimizer.state[parameter] = state
    return about


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
