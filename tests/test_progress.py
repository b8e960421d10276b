"""The progress line: what is in hand is counted, and shown on terminals only."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from rich.console import Console

from restorepix.cli.common import Talk
from restorepix.cli.progress import show_progress
from restorepix.detect.scan import Scanner, plan_tiles
from restorepix.progress import CALLS, Calls


def test_what_is_in_hand_is_counted_by_all_threads() -> None:
    calls = Calls()

    def work(count: int) -> None:
        with calls.plan(count) as advance:
            for _ in range(count):
                advance()

    with calls.plan(5) as advance:
        advance()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(200)))
        assert calls.read() == (1, 5)
        with pytest.raises(ValueError), calls.plan(3) as other:
            other()
            assert calls.read() == (2, 8)
            raise ValueError
        assert calls.read() == (1, 5)
    assert calls.read() == (0, 0)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_scan_counts_its_tiles(threads: int) -> None:
    seen: list[tuple[int, int]] = []

    class Quiet(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(CALLS.read())
            return torch.zeros_like(image)

    size = (900, 1300)
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    Scanner(Quiet(), torch.device("cpu"), threads=threads).scan(image, size)
    tiles = len(plan_tiles(*size))
    assert tiles > 1 and max(planned for _, planned in seen) == tiles
    assert all(made < planned for made, planned in seen)
    assert CALLS.read() == (0, 0)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_tiles_are_shown_on_a_terminal_only(is_terminal: bool) -> None:
    text = io.StringIO()
    talk = Talk(quiet=False)
    talk.console = Console(file=text, force_terminal=is_terminal, width=80)  # pyright: ignore
    with CALLS.plan(7) as call:
        call()
        with show_progress(talk, 3) as advance:
            advance()
    assert ("tile 1/7" in text.getvalue()) == is_terminal
    assert is_terminal or not text.getvalue()
