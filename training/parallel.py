"""Several processes that train one model: DistributedDataParallel under torchrun.

    torchrun --nproc-per-node 4 -m -- training.loop RECIPE --cache runs/cache --run runs/inpaint
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:29500 -m -- training.loop ...

The recipe's batch is that of all processes together: each draws the same dice and takes its share
of the rows, and gradients are averaged, so the loss curve is the one of a single process up to the
order of sums. Checkpoints and log are written by the first process; every node needs the cache and
sees the run folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    """Its number; 0 writes and talks."""
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes checkpoints and log."""
        return self.rank == 0

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The module to call in place of ``model``, so that gradients are averaged."""
        if self.count == 1:
            return model
        ids = [device.index] if device.type == "cuda" else None
        # A branch that has not joined yet has no gradients.
        return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module that ``wrap`` did not; every process has to call."""
        if self.count == 1:
            return
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad.div_(self.count)

    def average(self, values: list[float], device: torch.device) -> list[float]:
        """The mean of each value over all processes; every process has to call."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return (total / self.count).tolist()

    def check_equal(self, value: int, what: str, device: torch.device) -> None:
        """Refuse to go on from different states; every process has to call.

        Raises:
            ValueError: ``value`` differs between processes.
        """
        mean, mean_square = self.average([float(value), float(value) ** 2], device)
        if mean_square != mean**2:
            msg = f"{what} differs between processes ({value} here): share the run folder"
            raise ValueError(msg)

    def agree(self, wish: bool, device: torch.device) -> bool:
        """What the first process wishes, on all of them; every process has to call."""
        if self.count == 1:
            return wish
        flag = torch.tensor(int(wish), device=device)
        dist.broadcast(flag, 0)
        return bool(flag.item())


def join_processes(device: torch.device) -> tuple[Processes, torch.device]:
    """Join the processes that torchrun started; alone, there is one.

    Args:
        device: where to train; ``cuda`` becomes the GPU of this process's number on its node.

    Raises:
        ValueError: fewer GPUs on this node than processes.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Processes(), device
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            msg = (
                f"process {local} of this node has no GPU: PyTorch sees {torch.cuda.device_count()}"
            )
            raise ValueError(msg)
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size()), device


def leave_processes() -> None:
    """Wait for the others and part; without others, do nothing."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
