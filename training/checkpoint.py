"""Checkpoints of training runs: the inpainter, the detector, BYOL.

A folder of safetensors files (networks by name, two optimizer moments) and one JSON file, written
whole or not at all; no pickle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")


def save_checkpoint(
    folder: Path,
    networks: Mapping[str, nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    parameters: Mapping[str, nn.Parameter],
    about: Mapping[str, Any],
) -> None:
    """Write a checkpoint that replaces the one in ``folder`` as a whole.

    Args:
        folder: the checkpoint.
        networks: written as ``NAME.safetensors`` each, buffers too.
        optimizers: whose moments are written; not all keep both, or count steps.
        parameters: every parameter of the optimizers by a name that stays the same.
        about: JSON values for ``state.json``: the step, the configs.
    """
    fresh = folder.with_name(folder.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, network in networks.items():
        save_file(_plain(network.state_dict()), fresh / f"{name}.safetensors")
    kept = {item: state for optimizer in optimizers for item, state in optimizer.state.items()}
    active = {name: kept[item] for name, item in parameters.items() if item in kept}
    for moment in MOMENTS:
        moments = {name: state[moment] for name, state in active.items() if moment in state}
        save_file(_plain(moments), fresh / f"{moment}.safetensors")
    steps = {name: int(state["step"]) for name, state in active.items() if "step" in state}
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
    optimizers: Sequence[torch.optim.Optimizer],
    parameters: Mapping[str, nn.Parameter],
) -> dict[str, Any]:
    """Put a checkpoint's tensors into networks and optimizer; returns what ``about`` was."""
    for name, network in networks.items():
        network.load_state_dict(load_file(folder / f"{name}.safetensors"))
    moments = {moment: load_file(folder / f"{moment}.safetensors") for moment in MOMENTS}
    about: dict[str, Any] = json.loads((folder / "state.json").read_text())
    owners = {
        parameter: optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in parameters.items():
        if name not in moments["exp_avg"]:  # never updated yet
            continue
        state = {
            moment: torch.empty_like(parameter).copy_(saved[name])
            for moment, saved in moments.items()
            if name in saved
        }
        if name in about["optimizer_steps"]:
            state["step"] = torch.tensor(float(about["optimizer_steps"][name]))
        owners[parameter].state[parameter] = state
    return about


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
