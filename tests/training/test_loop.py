"""The training loop: it learns, it resumes to the bit, it exports what the package loads."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from restorepix.errors import WeightsError
from restorepix.models.generator import GeneratorConfig
from restorepix.models.loading import find_weights, load_generator
from training.adversarial import CriticConfig
from training.augment import AugmentConfig
from training.data import Batches
from training.export import export_weights
from training.loop import TrainConfig, Trainer, learning_rate, read_recipe

TINY = GeneratorConfig(coarse_channels=(8, 8, 8), refine_channels=(8, 8, 8), match_channels=4)
CONFIG = TrainConfig(steps=12, batch=2, crop_px=32, masks=8, warmup=2, attention_from=0.5)
CPU = torch.device("cpu")


def make_batches() -> Batches:
    rng = np.random.default_rng(0)
    photo = np.cumsum(rng.integers(-2, 3, (64, 64, 3)), axis=1).clip(0, 255).astype(np.uint8)
    masks = np.zeros((8, 32, 32), np.uint8)
    for number in range(8):
        masks[number, 4 + number : 12 + number, 8:20] = 1
    index = torch.tensor([[0, 64, 64]])
    return Batches(
        torch.from_numpy(photo.ravel()), index, torch.from_numpy(masks), CONFIG.batch, CONFIG.seed
    )


def train(trainer: Trainer, until: int) -> list[tuple[float, float]]:
    batches = make_batches()
    return [trainer.take_step(*batches.draw(trainer.step)) for _ in range(until - trainer.step)]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("pause", [4, 8])  # before and after attention joins
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, pause, optimizer):
    config = dataclasses.replace(CONFIG, optimizer=optimizer)
    whole = Trainer(config, TINY, CPU)
    losses = train(whole, config.steps)
    first = Trainer(config, TINY, CPU)
    train(first, pause)
    first.save(tmp_path / "checkpoint")
    second = Trainer(config, TINY, CPU)
    second.load(tmp_path / "checkpoint")
    assert second.step == pause
    assert train(second, config.steps) == losses[pause:]
    for model in ("model", "average"):
        ours, theirs = (getattr(t, model).state_dict() for t in (second, whole))
        for name in theirs:
            assert torch.equal(ours[name], theirs[name]), name


def test_two_runs_of_one_seed_are_the_same_and_another_seed_is_not():
    runs = []
    for seed in (1, 1, 2):
        trainer = Trainer(dataclasses.replace(CONFIG, seed=seed), TINY, CPU)
        runs.append(train(trainer, 3))
    assert runs[0] == runs[1] != runs[2]


def test_attention_joins_at_its_step_and_its_weights_start_to_move():
    trainer = Trainer(CONFIG, TINY, CPU)
    train(trainer, 6)
    assert trainer.model.refine.join.weight.abs().max() == 0
    train(trainer, 8)
    assert trainer.model.config.attention
    assert trainer.model.refine.join.weight.abs().max() > 0


def test_a_loss_that_is_not_finite_stops_the_run():
    trainer = Trainer(CONFIG, TINY, CPU)
    image, mask = make_batches().draw(0)
    with pytest.raises(FloatingPointError, match="step 0"):
        trainer.take_step(image * float("nan"), mask)


def test_the_learning_rate_warms_up_and_falls_to_its_end():
    config = TrainConfig(steps=1000, lr=1e-3, lr_end=1e-6, warmup=100)
    assert learning_rate(config, 0) == pytest.approx(1e-5)
    assert learning_rate(config, 99) == pytest.approx(1e-3)
    assert learning_rate(config, 550) == pytest.approx((1e-3 + 1e-6) / 2)
    assert learning_rate(config, 1000) == pytest.approx(1e-6)


def test_what_spoils_the_input_resumes_to_the_bit_and_leaves_the_target_clean(tmp_path):
    spoil = AugmentConfig(grain=1.0, jpeg=1.0, small_masks=0.5, large_masks=0.5)
    whole = Trainer(CONFIG, TINY, CPU, augment=spoil)
    train(whole, 6)
    first = Trainer(CONFIG, TINY, CPU, augment=spoil)
    train(first, 3)
    first.save(tmp_path / "checkpoint")
    second = Trainer(CONFIG, TINY, CPU, augment=spoil)
    second.load(tmp_path / "checkpoint")
    train(second, 6)
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    shown = []
    second.model.register_forward_pre_hook(lambda _module, given: shown.append(given))
    image, mask = make_batches().draw(6)
    before = image.clone()
    second.take_step(image, mask)
    assert torch.equal(image, before)
    assert not torch.equal(shown[0][0], image)
    assert shown[0][1].sum() > mask.sum()


def test_every_recipe_reads_and_unknown_keys_are_refused(tmp_path):
    recipes = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("inpaint*.toml"))
    assert recipes
    for recipe in recipes:
        assert read_recipe(recipe)[0].steps > 0
    bad = tmp_path / "bad.toml"
    bad.write_text("[train]\nsteps = 1\nlearning_rate = 2\n")
    with pytest.raises(ValueError, match="learning_rate"):
        read_recipe(bad)


def test_an_exported_checkpoint_loads_with_its_own_config(tmp_path):
    trainer = Trainer(CONFIG, TINY, CPU)
    train(trainer, 8)
    trainer.save(tmp_path / "checkpoint")
    out = tmp_path / "tiny.safetensors"
    digest = export_weights(tmp_path / "checkpoint", out)
    assert find_weights(out).sha256 == digest
    generator = load_generator(out, CPU)
    assert generator.config == TINY
    for name, tensor in trainer.average.state_dict().items():
        assert torch.allclose(generator.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    plain = export_weights(tmp_path / "checkpoint", tmp_path / "plain.safetensors", attention=False)
    assert plain != digest
    assert not load_generator(tmp_path / "plain.safetensors", CPU).config.attention


def test_two_sets_of_weights_are_exported_into_one_file(tmp_path):
    wide = Trainer(CONFIG, dataclasses.replace(TINY, levels=2), CPU)
    thin = Trainer(dataclasses.replace(CONFIG, seed=9), TINY, CPU)
    wide.save(tmp_path / "wide")
    thin.save(tmp_path / "thin")
    export_weights(tmp_path / "wide", tmp_path / "x.safetensors", thin=tmp_path / "thin", thin_px=5)
    generator = load_generator(tmp_path / "x.safetensors", CPU)
    assert generator.config == dataclasses.replace(TINY, levels=2, thin_px=5)
    stem, second = thin.average.coarse.stem.weight, generator.thin.coarse.stem.weight
    assert torch.allclose(second, stem, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="one level"):
        export_weights(tmp_path / "wide", tmp_path / "y.safetensors", thin=tmp_path / "wide")


def test_a_weight_beyond_float16_is_not_exported(tmp_path):
    trainer = Trainer(CONFIG, TINY, CPU)
    with torch.no_grad():
        trainer.average.coarse.stem.weight.fill_(1e6)
    trainer.save(tmp_path / "checkpoint")
    with pytest.raises(OverflowError, match="stem"):
        export_weights(tmp_path / "checkpoint", tmp_path / "x.safetensors")
    with pytest.raises(WeightsError):
        load_generator(tmp_path / "x.safetensors", CPU)


@pytest.mark.slow
def test_a_killed_process_leaves_a_checkpoint_that_continues(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        noise = rng.integers(0, 256, (64, 64, 3), np.uint8)
        (photos / f"{number}.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "[train]\nsteps = 100000\nbatch = 2\ncrop_px = 32\nmasks = 8\nattention_from = 1.0\n"
        "[generator]\ncoarse_channels = [8, 8, 8]\nrefine_channels = [8, 8, 8]\n"
    )
    cache, run = tmp_path / "cache", tmp_path / "run"
    python = [sys.executable, "-m"]
    root = Path(__file__).parents[2]
    subprocess.run(
        [*python, "training.data", photos, "--out", cache, "--min-side", "32"], cwd=root, check=True
    )
    command = [*python, "training.loop", recipe, "--cache", cache, "--run", run, "--save-every"]
    with subprocess.Popen([*command, "0.05"], cwd=root, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (run / "checkpoint" / "state.json").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)
        os.kill(process.pid, signal.SIGKILL)
    states = [run / "checkpoint" / "state.json", run / "checkpoint.part" / "state.json"]
    reached = max(json.loads(s.read_text())["step"] for s in states if s.is_file())
    assert reached > 0
    subprocess.run([*command, "60", "--minutes", "0.03"], cwd=root, check=True)
    assert json.loads(states[0].read_text())["step"] > 0


JUDGED = CriticConfig(channels=(4, 4, 4, 4), ramp=4)


def test_a_resumed_run_with_a_critic_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole = Trainer(CONFIG, TINY, CPU, critic=JUDGED)
    losses = train(whole, 8)
    first = Trainer(CONFIG, TINY, CPU, critic=JUDGED)
    train(first, 5)
    first.save(tmp_path / "checkpoint")
    second = Trainer(CONFIG, TINY, CPU, critic=JUDGED)
    second.load(tmp_path / "checkpoint")
    assert train(second, 8) == losses[5:]
    for ours, theirs in ((second.model, whole.model), (second.critic, whole.critic)):
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name


def test_a_critic_changes_what_the_generator_learns_only_once_it_has_grown():
    alone = Trainer(CONFIG, TINY, CPU)
    judged = Trainer(CONFIG, TINY, CPU, critic=JUDGED)
    judged.model.load_state_dict(alone.model.state_dict())
    assert train(alone, 1) == train(judged, 1)
    for name, tensor in alone.model.state_dict().items():
        assert torch.equal(judged.model.state_dict()[name], tensor), name
    train(alone, 4)
    train(judged, 4)
    ours, theirs = judged.model.state_dict(), alone.model.state_dict()
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)
