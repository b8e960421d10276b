"""What all trainers of the laboratory share: networks, optimizers, the step, checkpoints.

A system's trainer names its networks and optimizers and says what one step is. What a step does
depends on the seed and its number alone, so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Tensor, Tensor]
"""Images (B, 3, S, S) float in [-1, 1] and masks (B, 1, S, S) float, 1 = hole."""

Draw = Callable[[int], Batch]
"""A batch by its number."""


class LabTrainer(ABC):
    """The state of a run."""

    draws = 1
    """Batches that a step uses."""

    decay = False
    """Whether every rate warms up and falls to zero (``scale_rate``). Published schedules mostly do
    not, and their trainers leave it to the recipe: short runs want it."""

    def __init__(self, generator: nn.Module, *, steps: int, seed: int, bf16: bool) -> None:
        """Start a run of ``steps`` steps.

        Args:
            generator: what is trained and exported, called as ``generator(image, mask)``.
            steps: of the whole run; phases and rates are shares of it.
            seed: of all that is random in a step.
            bf16: autocast networks to bfloat16; a Wasserstein critic, whose scores and second
                derivatives want precision, stays in float32.
        """
        self.generator = generator.train()
        self.steps, self.seed, self.bf16 = steps, seed, bf16
        self.step = 0
        self.seconds = 0.0
        """That steps took in all calls, as ``train`` counts them."""
        self.networks: dict[str, nn.Module] = {"generator": generator}
        self.optimizers: dict[str, Optimizer] = {}

    @abstractmethod
    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """Take one optimizer step; ``draw(0)`` to ``draw(draws - 1)`` are its batches.

        Returns:
            Losses by name, for the log.
        """

    def take_step(self, draw: Draw) -> dict[str, float]:
        """One step; ``draw`` counts batches from the start of the run.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        if self.decay:
            self._set_rates()
        first = self.step * self.draws
        losses = self.compute_step(lambda number: draw(first + number))
        found = {name: float(value.detach()) for name, value in losses.items()}
        for name, value in found.items():
            if not math.isfinite(value):
                msg = f"{name} is {value} at step {self.step}; lower the learning rate"
                raise FloatingPointError(msg)
        self.step += 1
        return found

    def _set_rates(self) -> None:
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                peak = group.setdefault("peak_lr", group["lr"])
                group["lr"] = peak * scale_rate(self.step, self.steps)

    @contextmanager
    def mixed(self) -> Iterator[None]:
        """Autocast for a forward pass."""
        device = next(self.generator.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            yield

    def judge(self, critic: nn.Module, *pictures: Tensor) -> Tensor:
        """A critic's scores in float32, computed under autocast."""
        with self.mixed():
            scores: Tensor = critic(*pictures)
        return scores.float()

    def save(self, folder: Path) -> None:
        """Write a checkpoint that replaces the one in ``folder`` as a whole; no pickle."""
        fresh = folder.with_name(folder.name + ".part")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name, network in self.networks.items():
            save_file(_plain(network.state_dict()), fresh / f"{name}.safetensors")
        for name, optimizer in self.optimizers.items():
            flat = {
                f"{index}.{key}": torch.as_tensor(value)
                for index, state in optimizer.state_dict()["state"].items()
                for key, value in state.items()
            }
            save_file(_plain(flat), fresh / f"{name}.optimizer.safetensors")
        about = {"step": self.step, "steps": self.steps, "seconds": self.seconds}
        # Written last: with it, the new folder is whole even without this rename.
        (fresh / "state.json").write_text(json.dumps(about))
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint that ``save`` wrote."""
        for name, network in self.networks.items():
            network.load_state_dict(load_file(folder / f"{name}.safetensors"))
        for name, optimizer in self.optimizers.items():
            states: dict[int, dict[str, Tensor]] = {}
            for key, value in load_file(folder / f"{name}.optimizer.safetensors").items():
                index, _, field = key.partition(".")
                states.setdefault(int(index), {})[field] = value
            whole = optimizer.state_dict()
            optimizer.load_state_dict({**whole, "state": states})
        about = json.loads((folder / "state.json").read_text())
        self.step, self.seconds = int(about["step"]), float(about.get("seconds", 0))


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def step_optimizer(optimizer: Optimizer, loss: Tensor, clip: float | None = None) -> None:
    """Forget old gradients, compute those of ``loss``, clip their norm, move."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if clip is not None:
        parameters = [item for group in optimizer.param_groups for item in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()


def scale_rate(step: int, steps: int) -> float:
    """A learning rate's factor: a linear warm-up over 5 % of the run, then half a cosine to 0."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No parameter of ``network`` collects a gradient inside; what flows through it still does."""
    before = [parameter.requires_grad for parameter in network.parameters()]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, had in zip(network.parameters(), before, strict=True):
            parameter.requires_grad_(had)
