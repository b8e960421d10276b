"""The runner: which photographs, which masks, and a run that ends, resumes and exports."""

import json

import pytest
import torch

from restorepix.models.lab.glcic import GlcicConfig
from training.lab.batches import (
    MASK_KINDS,
    build_bank,
    open_batches,
    open_labelled,
    pick_photographs,
    pick_smallest,
)
from training.lab.recipe import LabConfig, Recipe
from training.lab.run import export_run, train
from training.lab.systems import adopt_state, start_run

CPU = torch.device("cpu")


def make_index(photographs=20):
    rows = []
    for number in range(photographs):
        for scale in (1.0, 0.8, 0.5):
            rows.append((0, int(200 * scale) + number % 2, int(100 * scale)))
    return torch.tensor(rows)


@pytest.mark.parametrize(("share", "count"), [(1.0, 20), (0.5, 10), (0.1, 2), (0.001, 1)])
def test_a_share_is_of_whole_photographs_spread_over_the_cache(share, count):
    index = make_index()
    chosen = pick_photographs(index, share)
    assert len(chosen) == 3 * count
    assert all(len(chosen[i : i + 3][:, 1].unique()) == 3 for i in range(0, len(chosen), 3))


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_banks_of_every_kind_are_seeded(kind):
    config = LabConfig("glcic", 1, crop_px=64, masks=kind, bank=4, seed=3)
    bank = build_bank(config)
    assert bank.shape == (4, 64, 64)
    assert bank.dtype == torch.uint8
    assert torch.equal(bank, build_bank(config))
    assert 0 < bank.float().mean() < 0.5


def test_a_bank_of_another_name_is_refused():
    with pytest.raises(ValueError, match="stars"):
        build_bank(LabConfig("glcic", 1, masks="stars"))


def test_a_run_that_was_stopped_goes_on_and_ends_once(tmp_path):
    config = LabConfig("glcic", 4, 2, 64, "box", bank=4, bf16=False)
    recipe = Recipe(config, {"channels": 4}, {"critic_channels": 4})
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (80 * 90 * 3,), generator=rng, dtype=torch.uint8)
    index = torch.tensor([[0, 80, 90]])
    draw = open_batches(config, pixels, index, build_bank(config))
    stopped = start_run(recipe, CPU)
    stopped.steps = 2
    train(stopped, draw, tmp_path / "run", log_every=1)
    trainer = start_run(recipe, CPU)
    train(trainer, draw, tmp_path / "run", log_every=1)
    assert trainer.step == 4
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    again = start_run(recipe, CPU)
    train(again, draw, tmp_path / "run")
    assert again.step == 4
    for key, value in trainer.generator.state_dict().items():
        assert torch.equal(value, again.generator.state_dict()[key])


def test_a_weight_beyond_float16_is_not_exported(tmp_path):
    recipe = Recipe(LabConfig("glcic", 1, 2, 64), {"channels": 4}, {"critic_channels": 4})
    trainer = start_run(recipe, CPU)
    assert trainer.generator.config == GlcicConfig(4)
    with torch.no_grad():
        next(trainer.generator.parameters()).fill_(1e6)
    with pytest.raises(OverflowError, match="float16"):
        export_run(trainer, recipe, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_the_smallest_size_of_each_photograph_is_its_last_row():
    index = make_index()
    small = pick_smallest(index)
    assert len(small) == 20
    assert set(small[:, 2].tolist()) == {50}
    config = LabConfig("glcic", 1, 1, 40, "box", bank=2, scale="smallest")
    pixels = torch.zeros(200 * 100 * 3 + 1, dtype=torch.uint8)
    image, _ = open_batches(config, pixels, index, build_bank(config))(0)
    assert image.shape == (1, 3, 40, 40)


def test_the_joint_arm_has_large_batches_for_byol_and_small_ones_of_fewer_photographs_for_l1():
    config = LabConfig("byol-unet", 1, 2, 40, "box", bank=2, views=6, labelled=0.1)
    pixels, index = torch.zeros(200 * 101 * 3, dtype=torch.uint8), make_index()
    bank = build_bank(config)
    assert open_batches(config, pixels, index, bank)(0)[0].shape == (6, 3, 40, 40)
    labelled = open_labelled(config, pixels, index, bank)
    assert labelled is not None
    assert labelled(0)[0].shape == (2, 3, 40, 40)
    plain = LabConfig("byol-unet", 1, 2, 40, "box", bank=2)
    assert open_labelled(plain, pixels, index, bank) is None


def test_a_network_goes_on_from_one_that_lacks_a_part():
    torch.manual_seed(0)
    old = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1))
    new = torch.nn.Sequential(torch.nn.Conv2d(5, 3, 1), torch.nn.Conv2d(3, 1, 1))
    kept = new[1].weight.clone()
    adopt_state(new, old.state_dict())
    assert torch.equal(new[0].weight[:, :2], old[0].weight)
    assert not new[0].weight[:, 2:].any()
    assert torch.equal(new[1].weight, kept)
    with pytest.raises(ValueError, match=r"1\.weight"):
        adopt_state(torch.nn.Sequential(torch.nn.Conv2d(5, 3, 1)), new.state_dict())
    with pytest.raises(ValueError, match="fewer input channels"):
        adopt_state(torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1)), old.state_dict())


def test_rates_fall_to_zero_where_a_recipe_says_so():
    recipe = Recipe(
        LabConfig("glcic", 20, 1, 64, "box", bank=2, decay=True, bf16=False),
        {"channels": 4},
        {"critic_channels": 4, "lr": 0.5},
    )
    trainer = start_run(recipe, CPU)
    index = torch.tensor([[0, 64, 64]])
    draw = open_batches(
        recipe.lab, torch.zeros(64 * 64 * 3, dtype=torch.uint8), index, build_bank(recipe.lab)
    )
    rates = []
    for _ in range(20):
        trainer.take_step(draw)
        rates.append(trainer.optimizers["generator"].param_groups[0]["lr"])
    assert rates[0] == 0.5
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.01
