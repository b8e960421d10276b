"""The generator: budget, any size, what it ignores, precision, and that it learns."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from restorepix.models.fill import halve
from restorepix.models.generator import Generator, GeneratorConfig, enlarge, find_wide

SMALL = GeneratorConfig(
    coarse_channels=(16, 16, 16), refine_channels=(16, 16, 16), match_channels=16
)


@pytest.fixture(scope="module", params=[1, 3], ids=["one level", "three levels"])
def small(request) -> Generator:
    torch.manual_seed(0)
    generator = Generator(dataclasses.replace(SMALL, levels=request.param)).eval()
    # These start at zero and would hide everything before them.
    for layer in (generator.refine.join, generator.refine.head, generator.coarse.head):
        torch.nn.init.normal_(layer.weight, std=0.05)
    return generator


def quarter_masked(side: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, side, side)
    mask[..., side // 4 : side // 4 * 3, side // 4 : side // 4 * 3] = 1
    return mask


@pytest.mark.parametrize("levels", [1, 3])
def test_the_budget_is_kept(levels):
    generator = Generator(GeneratorConfig(levels=levels)).eval()
    assert sum(p.numel() for p in generator.parameters()) <= 4_000_000
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        generator(torch.zeros(1, 3, 256, 256), quarter_masked(256))
    assert 4e9 < counter.get_total_flops() / 2 <= 8e9


def test_attention_can_be_switched_off_without_losing_parameters():
    on, off = Generator(SMALL), Generator(dataclasses.replace(SMALL, attention=False))
    off.load_state_dict(on.state_dict())


def test_thin_windows_go_to_the_second_weights_whatever_is_in_their_batch():
    torch.manual_seed(0)
    both = Generator(dataclasses.replace(SMALL, levels=2, thin_px=9)).eval()
    assert both.thin is not None
    for layer in (both.refine.head, both.thin.refine.head):
        torch.nn.init.normal_(layer.weight, std=0.05)
    image, mask = torch.rand(3, 3, 64, 64) * 2 - 1, torch.zeros(3, 1, 64, 64)
    mask[0, :, 10:18] = 1  # eight rows
    mask[1, :, 10:19, 4:20] = 1  # nine
    mask[2, :, ::2] = 1
    assert find_wide(mask, 9).tolist() == [False, True, False]
    wide = Generator(dataclasses.replace(SMALL, levels=2)).eval()
    wide.load_state_dict({k: v for k, v in both.state_dict().items() if k[:5] != "thin."})
    with torch.no_grad():
        together = both(image, mask).refined
        alone = [both(image[i : i + 1], mask[i : i + 1]).refined for i in range(3)]
        expected = [
            network(image[i : i + 1], mask[i : i + 1]).refined
            for i, network in enumerate((both.thin, wide, both.thin))
        ]
    for index in range(3):
        assert torch.equal(alone[index], expected[index])
        assert (together[index] - alone[index][0]).abs().max() < 1e-5
    assert not torch.equal(expected[0], wide(image[:1], mask[:1]).refined)


@pytest.mark.parametrize("size", [(1, 1), (8, 40), (40, 8), (40, 40)])
def test_wide_holes_are_those_that_hold_a_square(size):
    rng = torch.Generator().manual_seed(5)
    for share in (0.05, 0.5, 0.98):
        mask = (torch.rand(2, 1, *size, generator=rng) < share).float()
        squares = torch.nn.functional.unfold(mask, 5) if min(size) >= 5 else torch.zeros(2, 25, 1)
        expected = (squares.sum(1) == 25).any(1)
        assert torch.equal(find_wide(mask, 5), expected)


def test_each_level_starts_from_the_enlarged_result_of_the_one_before():
    torch.manual_seed(0)
    large = Generator(dataclasses.replace(SMALL, levels=3)).eval()
    torch.nn.init.normal_(large.refine.head.weight, std=0.01)
    smaller = Generator(dataclasses.replace(SMALL, levels=2)).eval()
    smaller.load_state_dict(large.state_dict())
    image, mask = torch.rand(1, 3, 128, 128) * 2 - 1, quarter_masked(128)
    half, hole = halve(image, mask)
    with torch.no_grad():
        stages, before = large(image, mask), smaller(half, hole)
    painted = torch.where(hole > 0, before.refined, half)
    torch.testing.assert_close(stages.coarse, enlarge(painted).clamp(-1, 1))
    assert not torch.equal(stages.refined, stages.coarse)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 2), (16, 24)])
def test_enlarging_is_bicubic(size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(x, scale_factor=2, mode="bicubic")
    torch.testing.assert_close(enlarge(x), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (15, 16), (33, 250), (264, 312), (2, 1000)])
def test_any_size_gives_finite_pictures_of_that_size(small, size):
    image = torch.rand(1, 3, *size) * 2 - 1
    for mask in (torch.zeros(1, 1, *size), torch.ones(1, 1, *size), (image[:, :1] > 0).float()):
        with torch.no_grad():
            stages = small(image, mask)
        for stage in stages:
            assert stage.shape == image.shape
            assert torch.isfinite(stage).all()
            assert stage.abs().max() <= 1


def test_what_lies_in_the_hole_cannot_leak_out(small):
    image, mask = torch.rand(1, 3, 64, 64), quarter_masked(64)
    with torch.no_grad():
        plain = small(image, mask).refined
        changed = small(torch.where(mask > 0, torch.rand_like(image), image), mask).refined
    assert torch.equal(plain, changed)


def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch(small):
    image, mask = torch.rand(3, 3, 64, 64), torch.zeros(3, 1, 64, 64)
    mask[0, :, 20:30], mask[1, :, :, 5:9], mask[2] = 1, 1, 1
    with torch.no_grad():
        together = small(image, mask).refined
        alone = torch.cat([small(image[i : i + 1], mask[i : i + 1]).refined for i in range(3)])
    assert (together - alone).abs().max() < 1e-5


def test_bfloat16_stays_within_a_grey_level(small):
    image, mask = torch.rand(1, 3, 128, 128) * 2 - 1, quarter_masked(128)
    with torch.no_grad():
        exact = small(image, mask).refined
        with torch.autocast("cpu", torch.bfloat16):
            rough = small(image, mask).refined
    assert rough.dtype == torch.float32
    error = ((exact - rough).abs() * mask).sum() / (3 * mask.sum())
    assert 0 < error < 2 / 255


@pytest.mark.slow
def test_a_few_hundred_steps_halve_the_error_on_periodic_textures():
    torch.manual_seed(0)
    generator = Generator(SMALL).train()
    optimizer = torch.optim.AdamW(generator.parameters(), 2e-3)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    waves = [torch.sin(rows / (1.5 + k) + columns / (3.0 + k)) for k in range(8)]
    image = torch.stack(waves)[:, None].expand(8, 3, 64, 64).contiguous()
    mask = quarter_masked(64).expand(8, 1, 64, 64)
    errors = []
    for _ in range(300):
        stages = generator(image, mask)
        error = ((stages.refined - image).abs() * mask).sum() / (3 * mask.sum())
        coarse = ((stages.coarse - image).abs() * mask).sum() / (3 * mask.sum())
        optimizer.zero_grad()
        (error + 0.3 * coarse).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 2
