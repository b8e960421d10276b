"""Trainers: steps move what they should and nothing else, runs resume to the bit, losses fall."""

import dataclasses

import pytest
import torch

from restorepix.models.encoder import Encoder, EncoderConfig
from restorepix.models.generator import Generator, GeneratorConfig
from restorepix.models.lab.byol_unet import ByolUnet, ByolUnetConfig
from restorepix.models.lab.context_encoder import (
    AlexContextEncoder,
    ContextEncoder,
    ContextEncoderConfig,
)
from restorepix.models.lab.deepfill import DeepFill, DeepFillConfig
from restorepix.models.lab.glcic import Glcic, GlcicConfig
from restorepix.models.lab.shift_net import ShiftNet, ShiftNetConfig
from training.lab.byol_unet import ByolUnetTrainer, ByolUnetTraining
from training.lab.context_encoder import ContextTrainer, ContextTraining
from training.lab.deepfill import DeepFillTrainer, DeepFillTraining
from training.lab.glcic import GlcicTrainer, GlcicTraining, find_phase, hole_mse
from training.lab.reconstruction import ReconstructionTrainer, ReconstructionTraining
from training.lab.shift_net import ShiftNetTrainer, ShiftTraining, guidance_loss
from training.lab.trainer import frozen, scale_rate

STEPS = 6
DEEPFILL = DeepFillTraining(critic_steps=2, critic_channels=4)
UNET = ByolUnetConfig((8, 8, 8, 8), (1, 1, 1, 1))


def make_draw(side):
    def draw(number):
        rng = torch.Generator().manual_seed(number)
        image = torch.rand(4, 3, 4, 4, generator=rng) * 2 - 1
        image = torch.nn.functional.interpolate(image, size=(side, side), mode="bilinear")
        mask = torch.zeros(4, 1, side, side)
        mask[..., side // 4 : side // 2, side // 4 : side // 2] = 1
        return image, mask

    return draw


def build_deepfill(**changes):
    torch.manual_seed(0)
    training = dataclasses.replace(DEEPFILL, **changes)
    features = Encoder(EncoderConfig(3, (8, 8, 8, 8), (1, 1, 1, 1)))
    return DeepFillTrainer(
        DeepFill(DeepFillConfig(4)), training, steps=STEPS, side_px=32, features=features
    )


def build_context(form="center", **changes):
    torch.manual_seed(0)
    training = ContextTraining(**changes)
    config = ContextEncoderConfig(form, "pointwise", width=16, channels=8)
    return ContextTrainer(ContextEncoder(config), training, steps=STEPS)


def build_glcic(**changes):
    torch.manual_seed(0)
    changes = {"generator_share": 0.3, "critic_share": 0.3, "critic_channels": 4, **changes}
    training = GlcicTraining(**changes)
    return GlcicTrainer(Glcic(GlcicConfig(4)), training, steps=STEPS, side_px=64)


def build_shift():
    torch.manual_seed(0)
    training = ShiftTraining(critic_channels=4)
    return ShiftNetTrainer(ShiftNet(ShiftNetConfig(8, 4)), training, steps=STEPS)


def build_unet(arm="joint", steps=STEPS):
    torch.manual_seed(0)
    pretrained = None
    if arm in ("finetuned", "frozen"):
        pretrained = Encoder(EncoderConfig(3, UNET.channels, UNET.depths)).state_dict()
    training = ByolUnetTraining(arm, hidden=16, projection=8)
    return ByolUnetTrainer(ByolUnet(UNET), training, steps=steps, pretrained=pretrained)


def build_plain():
    torch.manual_seed(0)
    config = GeneratorConfig((8, 8, 8), (8, 8, 8), 4)
    return ReconstructionTrainer(Generator(config), ReconstructionTraining(), steps=STEPS)


SYSTEMS = {
    "deepfill": (build_deepfill, 32),
    "context": (build_context, 128),
    "glcic": (build_glcic, 64),
    "shift-net": (build_shift, 32),
    "byol-unet": (build_unet, 64),
    "reconstruction": (build_plain, 32),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_resumed_run_equals_an_uninterrupted_one(name, tmp_path):
    build, side = SYSTEMS[name]
    draw = make_draw(side)
    whole = build()
    before = {k: v.clone() for k, v in whole.generator.state_dict().items()}
    losses = [whole.take_step(draw) for _ in range(STEPS)]
    first = build()
    for _ in range(4):
        first.take_step(draw)
    first.save(tmp_path / "checkpoint")
    second = build()
    second.load(tmp_path / "checkpoint")
    assert [second.take_step(draw) for _ in range(STEPS - 4)] == losses[4:]
    moved = 0
    for key, value in whole.generator.state_dict().items():
        assert torch.equal(value, second.generator.state_dict()[key]), key
        moved += not torch.equal(value, before[key])
    assert moved > len(before) // 2


def test_a_loss_that_is_not_finite_stops_the_run():
    trainer = build_plain()
    image, mask = make_draw(32)(0)
    with pytest.raises(FloatingPointError, match="step 0"):
        trainer.take_step(lambda _: (image * float("nan"), mask))


def test_the_rate_warms_up_and_falls():
    assert scale_rate(0, 1000) == pytest.approx(1 / 50)
    assert scale_rate(49, 1000) == 1
    assert scale_rate(525, 1000) == pytest.approx(0.5)
    assert scale_rate(1000, 1000) == pytest.approx(0)


# DeepFill v1


def test_a_critic_step_leaves_no_gradient_in_the_generator_and_the_other_way_round():
    trainer = build_deepfill()
    image, mask = make_draw(32)(0)
    answer = trainer.generator(image, mask)
    trainer.compute_critic_loss(image, answer.refined, mask).backward()
    assert all(p.grad is None for p in trainer.generator.parameters())
    assert any(p.grad is not None for p in trainer.critics.parameters())
    trainer.critics.zero_grad(set_to_none=True)
    with frozen(trainer.critics):
        trainer.compute_adversarial(trainer.generator(image, mask).refined, mask).backward()
    assert all(p.grad is None and p.requires_grad for p in trainer.critics.parameters())
    assert any(p.grad is not None for p in trainer.generator.decoder.parameters())


def test_five_critic_steps_use_five_batches_of_their_own():
    trainer = build_deepfill(critic_steps=5)
    seen = []

    def draw(number):
        seen.append(number)
        return make_draw(32)(number)

    trainer.take_step(draw)
    trainer.take_step(draw)
    assert sorted(seen) == list(range(12))


def test_reconstruction_has_the_published_weights():
    trainer = build_deepfill(discount="none")
    image, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 8:16, 8:16] = 1
    answer = trainer.generator(image, mask)
    answer = answer._replace(coarse=mask * 0.5 + 0.25 * (1 - mask) + image, refined=mask + image)
    # 1.2 (1.2 * 0.5 + 1) + 1.2 (1.2 * 0.25 + 0)
    assert trainer.compute_reconstruction(answer, image, mask).item() == pytest.approx(2.28)
    plain = build_deepfill(discount="none", refined_l1=False)
    assert plain.compute_reconstruction(answer, image, mask).item() == pytest.approx(1.08)


@pytest.mark.parametrize("adversary", ["standard", "lsgan", "none"])
def test_other_adversaries_and_extra_terms_run(adversary):
    trainer = build_deepfill(
        adversary=adversary, perceptual_weight=0.1, style_weight=1.0, variation_weight=0.01
    )
    losses = trainer.take_step(make_draw(32))
    assert ("critics" in losses) == (adversary != "none")
    assert {"perceptual", "style", "variation"} <= set(losses)


def test_perceptual_terms_need_an_encoder():
    with pytest.raises(ValueError, match="encoder"):
        DeepFillTrainer(
            DeepFill(DeepFillConfig(4)), DeepFillTraining(style_weight=1), steps=1, side_px=32
        )


# Context encoders


@pytest.mark.parametrize(
    ("form", "changes"),
    [
        ("center", {"critic_sees_context": True}),
        ("center", {"reconstruction": "l1", "adversarial_weight": 0.0}),
        ("whole", {}),
        ("whole", {"known_weight": 1.0}),
    ],
)
def test_the_forms_and_their_ablations_run(form, changes):
    trainer = build_context(form, **changes)
    losses = trainer.take_step(make_draw(128))
    assert ("critic" in losses) == (changes.get("adversarial_weight") != 0)


def test_the_critic_of_a_context_encoder_steps_without_touching_the_generator():
    trainer = build_context()
    for parameter in trainer.generator.parameters():
        parameter.register_hook(lambda _: pytest.fail("the generator got a gradient"))
    trainer.optimizers["generator"].step = lambda: None
    predicted, target, _, judged, real = trainer._predict(*make_draw(128)(0))
    assert judged is predicted
    assert real is target
    loss = trainer.critic(real).mean() - trainer.critic(judged.detach()).mean()
    loss.backward()
    assert all(p.grad is None for p in trainer.generator.parameters())


def test_the_alexnet_form_trains_by_l2_alone():
    with pytest.raises(ValueError, match="without a critic"):
        ContextTrainer(AlexContextEncoder(), ContextTraining(), steps=1)


@pytest.mark.slow
def test_a_context_encoder_learns_one_picture_by_heart():
    trainer = build_context(lr=0.003, adversarial_weight=0.0, rim_weight=1.0)
    batch = make_draw(128)(0)
    image = batch[0][:1].expand(2, 3, 128, 128).contiguous()
    errors = [trainer.take_step(lambda _: (image, batch[1]))["reconstruction"] for _ in range(250)]
    assert errors[-1] < 1e-3


# GLCIC


def test_phases_follow_their_shares_and_freeze_the_right_network():
    training = GlcicTraining()
    assert [find_phase(step, 500, training) for step in (0, 89, 90, 99, 100, 499)] == [
        "generator", "generator", "critic", "critic", "joint", "joint",
    ]  # fmt: skip
    trainer = build_glcic()
    draw = make_draw(64)
    for phase, moves in (
        ("generator", {"generator"}),
        ("critic", {"critic"}),
        ("joint", {"generator", "critic"}),
    ):
        while find_phase(trainer.step, STEPS, trainer.training) != phase:
            trainer.take_step(draw)
        before = {
            name: [p.clone() for p in network.parameters()]
            for name, network in trainer.networks.items()
        }
        trainer.take_step(draw)
        moved = {
            name
            for name, network in trainer.networks.items()
            if any(
                not torch.equal(a, b)
                for a, b in zip(before[name], network.parameters(), strict=True)
            )
        }
        assert moved == moves, phase


def test_without_alpha_the_generator_gets_the_gradient_of_mse():
    gradients = []
    for share in (0.0, 1.0):  # joint from the start, and the generator alone
        trainer = build_glcic(alpha=0.0, generator_share=share, critic_share=0.0)
        trainer.optimizers["generator"].step = lambda: None
        trainer.take_step(make_draw(64))
        gradients.append([p.grad.clone() for p in trainer.generator.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_mse_has_no_gradient_outside_the_hole():
    predicted = torch.rand(2, 3, 16, 16, requires_grad=True)
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., 2:5, 3:9] = 1
    hole_mse(predicted, torch.zeros(2, 3, 16, 16), mask).backward()
    inside = mask.expand_as(predicted) > 0
    assert predicted.grad[~inside].abs().max() == 0
    assert (predicted.grad[inside] > 0).all()


# Shift-Net


def test_guidance_pulls_hole_cells_of_the_decoder_alone():
    decoded = torch.rand(1, 4, 8, 8, requires_grad=True)
    truth = torch.rand(1, 4, 8, 8, requires_grad=True)
    hole = torch.zeros(1, 1, 8, 8)
    hole[..., 2:4, 2:4] = 1
    guidance_loss(decoded, truth, hole).backward()
    assert truth.grad is None
    assert decoded.grad[..., 4:, :].abs().max() == 0
    assert decoded.grad[..., 2:4, 2:4].abs().min() > 0


# BYOL U-Net


def test_a_frozen_encoder_stays_bit_for_bit_and_the_decoder_moves():
    trainer = build_unet("frozen")
    before = {k: v.clone() for k, v in trainer.generator.state_dict().items()}
    for _ in range(3):
        trainer.take_step(make_draw(64))
    for key, value in trainer.generator.state_dict().items():
        if key.startswith("encoder."):
            assert torch.equal(value, before[key]), key
    assert not torch.equal(trainer.generator.head.weight, before["head.weight"])


def test_the_joint_arm_moves_one_encoder_by_both_losses_and_the_target_by_average():
    trainer = build_unet("joint", steps=200)
    assert trainer.byol.online.encoder is trainer.generator.encoder
    target = [p.clone() for p in trainer.byol.target.parameters()]
    losses = trainer.take_step(make_draw(64))
    trainer.take_step(make_draw(64))
    assert 0 <= losses["byol"] <= 8
    assert all(p.grad is None for p in trainer.byol.target.parameters())
    pairs = zip(target, trainer.byol.target.parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in pairs)


def test_labelled_batches_are_drawn_for_l1_alone():
    asked = []

    def labelled(number):
        asked.append(number)
        return make_draw(64)(1000)

    torch.manual_seed(0)
    trainer = ByolUnetTrainer(
        ByolUnet(UNET), ByolUnetTraining("joint", hidden=16, projection=8), steps=STEPS,
        labelled=labelled,
    )  # fmt: skip
    trainer.take_step(make_draw(64))
    assert asked == [0]


@pytest.mark.parametrize(("arm", "has"), [("frozen", False), ("random", True), ("joint", True)])
def test_arms_want_their_encoders(arm, has):
    state = Encoder(EncoderConfig(3, UNET.channels, UNET.depths)).state_dict() if has else None
    with pytest.raises(ValueError, match=arm):
        ByolUnetTrainer(ByolUnet(UNET), ByolUnetTraining(arm), steps=1, pretrained=state)
