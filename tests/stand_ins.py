"""Repairs for worker processes, which find them by the name of this module."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from conftest import FlatInpainter

import restorepix
from restorepix.errors import DeviceLostError, WeightsError
from restorepix.options import RestoreOptions
from restorepix.pipeline import MaskRepair, Network

ROOT = Path(restorepix.__file__).parents[1]
CLI = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import resource
from conftest import FlatInpainter
from restorepix import pipeline
from restorepix.cli import main
pipeline.load_network = lambda options: pipeline.Network(FlatInpainter(), "cpu", "a" * 64)
if sys.argv[1] != "-":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv = ["restorepix", *sys.argv[2:]]
main()
"""
"""The command line with a stand-in for the network; the first argument limits file sizes."""

DEADLY_WIDTH = 40
"""A picture this wide kills the process that repaints it."""


def wrap(inpainter: FlatInpainter, options: RestoreOptions) -> MaskRepair:
    return MaskRepair(Network(inpainter, options.device, "a" * 64), options)


def build_flat(options: RestoreOptions) -> MaskRepair:
    return wrap(FlatInpainter(), options)


class Deadly(FlatInpainter):
    def inpaint(self, image, mask):
        marker = os.environ.get("DEADLY_ONCE")
        if mask.shape[1] == DEADLY_WIDTH and (marker is None or not Path(marker).exists()):
            if marker is not None:
                Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return super().inpaint(image, mask)


def build_deadly(options: RestoreOptions) -> MaskRepair:
    return wrap(Deadly(), options)


class Slow(FlatInpainter):
    def inpaint(self, image, mask):
        time.sleep(random.uniform(0, 0.05))
        return super().inpaint(image, mask)


def build_slow(options: RestoreOptions) -> MaskRepair:
    return wrap(Slow(), options)


class Stuck(FlatInpainter):
    def inpaint(self, image, mask):
        time.sleep(3600)


def build_stuck(options: RestoreOptions) -> MaskRepair:
    return wrap(Stuck(), options)


class Losing(FlatInpainter):
    """A GPU that fails at its second picture."""

    def inpaint(self, image, mask):
        patches = super().inpaint(image, mask)
        if self.calls > 1:
            raise DeviceLostError("the driver does not answer any more.")
        return patches


def build_losing(options: RestoreOptions) -> MaskRepair:
    lost = options.device in ("cuda:0", "auto")
    return wrap(Losing() if lost else FlatInpainter(), options)


def build_all_losing(options: RestoreOptions) -> MaskRepair:
    return wrap(Losing(), options)


class Faulty(FlatInpainter):
    def inpaint(self, image, mask):
        raise RuntimeError("oops")


def build_faulty(options: RestoreOptions) -> MaskRepair:
    return wrap(Faulty(), options)


def refuse(options: RestoreOptions) -> MaskRepair:
    raise WeightsError("weights.safetensors: gone.")


class Sleepy(FlatInpainter):
    """Long enough for something to be killed meanwhile."""

    def inpaint(self, image, mask):
        time.sleep(1)
        return super().inpaint(image, mask)


def build_sleepy(options: RestoreOptions) -> MaskRepair:
    return wrap(Sleepy(), options)
