"""DeepFill v1: parameters, shapes, flags, and its run inside the package's own inpainter."""

import numpy as np
import pytest
import torch

from restorepix.inpaint import Inpainter
from restorepix.models.lab.answer import composite
from restorepix.models.lab.deepfill import DeepFill, DeepFillConfig
from restorepix.models.lab.warps import AppearanceFlow, SpatialTransformer, measure_variety

SMALL = 8


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def center_mask(height: int, width: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., height // 4 : -(height // 4), width // 4 : -(width // 4)] = 1
    return mask


def test_parameters_are_the_published_ones():
    generator = DeepFill()
    assert count(generator) == 3_601_542
    assert count(generator.coarse) == 1_448_227
    assert count(DeepFill(DeepFillConfig(branch="none"))) == 2_758_118


@pytest.mark.parametrize("size", [(256, 256), (264, 312), (37, 50), (1, 1)])
def test_any_size_gives_pictures_of_that_size_and_keeps_known_pixels(size):
    torch.manual_seed(0)
    generator = DeepFill(DeepFillConfig(channels=SMALL)).eval()
    image = torch.rand(1, 3, *size) * 2 - 1
    mask = center_mask(*size) if min(size) > 4 else torch.ones(1, 1, *size)
    with torch.no_grad():
        answer = generator(image, mask)
    for stage in answer:
        assert stage.shape == image.shape
        assert stage.abs().max() <= 1
    known = (mask == 0).expand_as(image)
    assert torch.equal(composite(answer.refined, image, mask)[known], image[known])


def test_what_lies_in_the_hole_cannot_leak_out():
    torch.manual_seed(0)
    generator = DeepFill(DeepFillConfig(channels=SMALL)).eval()
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, center_mask(64, 64)
    other = torch.where(mask > 0, torch.rand_like(image), image)
    with torch.no_grad():
        assert torch.equal(generator(image, mask).refined, generator(other, mask).refined)


@pytest.mark.parametrize("branch", ["none", "transformer", "flow"])
def test_the_coarse_network_does_not_depend_on_the_second_branch(branch):
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, center_mask(64, 64)
    answers = []
    for name in ("contextual", branch):
        torch.manual_seed(7)
        generator = DeepFill(DeepFillConfig(channels=SMALL, branch=name)).eval()
        with torch.no_grad():
            answers.append(generator(image, mask))
    assert torch.equal(answers[0].coarse, answers[1].coarse)
    assert not torch.equal(answers[0].refined, answers[1].refined)


@pytest.mark.parametrize("masking", ["published", "corrected"])
def test_the_gradient_reaches_every_parameter_and_the_coarse_stage_through_the_paste(masking):
    torch.manual_seed(0)
    generator = DeepFill(DeepFillConfig(channels=SMALL, masking=masking))
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, center_mask(64, 64)
    generator(image, mask).refined.square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
    assert generator.coarse[0][0].weight.grad.abs().max() > 0


def test_offsets_are_for_pictures_and_the_baseline_has_none():
    torch.manual_seed(0)
    image, mask = torch.rand(1, 3, 64, 72), center_mask(64, 72)
    generator = DeepFill(DeepFillConfig(channels=SMALL)).eval()
    with torch.no_grad():
        assert generator.find_offsets(image, mask).shape == (1, 2, 8, 9)
    with pytest.raises(ValueError, match="no attention"):
        DeepFill(DeepFillConfig(channels=SMALL, branch="none")).find_offsets(image, mask)
    with pytest.raises(ValueError, match="branch"):
        DeepFill(DeepFillConfig(branch="cosine"))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_packages_inpainter_runs_it(dtype):
    torch.manual_seed(0)
    inpainter = Inpainter(
        DeepFill(DeepFillConfig(channels=SMALL)), torch.device("cpu"), dtype=dtype
    )
    mask = np.zeros((70, 90), np.bool_)
    mask[20:40, 30:60] = True
    image = np.random.default_rng(0).random((70, 90, 3), np.float32)
    patches = inpainter.inpaint(image, mask)
    assert sum(int(mask[patch.box.slices()].sum()) for patch in patches) == mask.sum()
    assert all(np.isfinite(patch.rgb).all() for patch in patches)


@pytest.mark.parametrize("build", [SpatialTransformer, AppearanceFlow])
def test_warps_start_as_the_identity_on_known_features_and_learn(build):
    torch.manual_seed(0)
    warp = build(4)
    features, hole = torch.randn(2, 4, 16, 16), torch.zeros(2, 1, 16, 16)
    hole[..., 4:8, 4:8] = 1
    moved, maps = warp(features, hole)
    assert torch.allclose(moved, features * (1 - hole), atol=1e-5)
    assert measure_variety(maps) == 0
    moved.square().mean().backward()
    gradients = [parameter.grad for parameter in warp.parameters()]
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
