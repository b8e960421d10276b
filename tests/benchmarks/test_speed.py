from __future__ import annotations

import pytest
import torch

from benchmarks.speed import Timing, build_rows, count_parameters, time_rows, write_table
from restorepix.models.lama import Lama, LamaConfig


def test_lama_has_the_parameters_of_the_published_model() -> None:
    with torch.device("meta"):
        lama = Lama()
    # 36 Fourier convolutions of 1,329,280 and 3,121,795 around them, summed by hand.
    assert count_parameters(lama) == 50_975_875


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lama_runs_in_both_precisions(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    lama = Lama(LamaConfig(blocks=1)).eval().to(dtype)
    image = torch.rand(1, 3, 64, 96, dtype=dtype)
    mask = torch.zeros(1, 1, 64, 96, dtype=dtype)
    mask[..., 16:48, 24:72] = 1
    with torch.inference_mode():
        result = lama(image, mask).refined
        unseen = lama(torch.where(mask > 0, 0.5, image).to(dtype), mask).refined
    assert result.shape == image.shape
    assert result.dtype == dtype
    assert bool(((result > -1) & (result < 1)).all())
    assert torch.equal(result, unseen)


def test_lama_sees_the_whole_picture() -> None:
    torch.manual_seed(0)
    lama = Lama(LamaConfig(blocks=1)).eval()
    image, mask = torch.rand(1, 3, 128, 128), torch.zeros(1, 1, 128, 128)
    other = image.clone()
    other[..., :4, :4] = 1 - other[..., :4, :4]
    with torch.inference_mode():
        changed = (lama(image, mask).refined - lama(other, mask).refined).abs().amax(1)[0]
    assert bool((changed[-8:, -8:] > 0).any())


def test_rows_are_timed_in_turn_after_warming_up() -> None:
    calls: list[str] = []
    rows = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    timings = time_rows(rows, rounds=3, warm_up=2)
    assert calls == ["a", "a", "b", "b"] + ["a", "b"] * 3
    assert [(timing.name, len(timing.seconds)) for timing in timings] == [("a", 3), ("b", 3)]
    assert all(seconds >= 0 for timing in timings for seconds in timing.seconds)


def test_table_gives_medians_ranges_and_ratios() -> None:
    timings = [
        Timing("restorepix fix", (0.1, 0.9, 0.2)),
        Timing("LaMa float32", (4.0, 4.0, 4.0)),
        Timing("LaMa bfloat16", (1.0, 2.0, 1.0)),
    ]
    table = write_table(timings).splitlines()
    assert table[2] == "| restorepix fix | 0.200 | 0.100 to 0.900 | 20.0 x | 5.0 x |"
    assert table[4].endswith("| 4.0 x | 1.0 x |")


@pytest.mark.slow
def test_every_row_runs() -> None:
    rows = build_rows(None, 64)
    timings = time_rows(rows, rounds=1, warm_up=0)
    assert len(timings) == 7
    assert "LaMa bfloat16 takes" in write_table(timings)
