"""Augmentations: what they change, what they leave, and that they repeat."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch.nn import functional

from training.augment import LUMINANCE, add_grain, add_jpeg_noise, jitter_masks


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def draw_batch(count: int = 6) -> torch.Tensor:
    photo = torch.tensor(data.astronaut()[:96, :80].copy()).permute(2, 0, 1)[None]
    return (photo / 127.5 - 1).repeat(count, 1, 1, 1)


def draw_masks(count: int = 6) -> torch.Tensor:
    mask = torch.zeros(count, 1, 96, 80)
    mask[..., 40:44, 10:60] = 1
    return mask


@pytest.mark.parametrize("augment", [add_grain, add_jpeg_noise])
def test_a_share_of_the_samples_changes_and_the_target_stays(augment) -> None:
    clean = draw_batch(40)
    kept = clean.clone()
    seen = augment(clean, seed(), share=0.5)
    assert torch.equal(clean, kept)
    assert seen.shape == clean.shape
    assert seen.abs().max() <= 1
    changed = (seen != clean).flatten(1).any(1).float().mean()
    assert 0.25 < changed < 0.75
    assert torch.equal(seen, augment(clean, seed(), share=0.5))
    assert not torch.equal(seen, augment(clean, seed(1), share=0.5))
    assert torch.equal(augment(clean, seed(), share=0.0), clean)


def test_grain_is_as_strong_as_asked() -> None:
    grey = torch.zeros(200, 3, 64, 64)
    levels = add_grain(grey, seed(), most=10, share=1.0).flatten(1).std(1) * 127.5
    assert 0 <= levels.min() < 1
    assert 8.5 < levels.max() < 10.5


def test_grain_differs_in_size_and_in_colour() -> None:
    grain = add_grain(torch.zeros(60, 3, 64, 64), seed(), share=1.0)
    beside = (grain * grain.roll(1, 3)).flatten(1).mean(1) / grain.square().flatten(1).mean(1)
    channels = (grain[:, 0] * grain[:, 1]).flatten(1).mean(1) / grain[:, 0].square().flatten(
        1
    ).mean(1)
    for found in (beside, channels):
        assert found.min() < 0.1
        assert found.max() > 0.5


def test_rounding_is_that_of_jpeg_files() -> None:
    """Grey pictures at a fixed quality, against libjpeg."""
    photo = data.camera()[200:360, 200:360]
    image = torch.tensor(photo).float()[None, None].repeat(1, 3, 1, 1) / 127.5 - 1
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=60)
    truth = np.asarray(Image.open(buffer)).astype(float)
    draws = [torch.randint(8, (2,), generator=seed(number)).tolist() for number in range(1000)]
    number = draws.index([0, 0])  # blocks begin at the corner
    ours = add_jpeg_noise(image, seed(number), (60, 60), share=1.0)
    levels = ((ours[0, 0] + 1) * 127.5).numpy()
    change = np.abs(levels - photo).mean()
    assert change > 2
    assert np.abs(levels - truth).mean() < 0.2 * change  # libjpeg rounds to whole levels, too
    assert len(LUMINANCE) == len(LUMINANCE[0]) == 8


def test_halos_and_margins() -> None:
    image, mask = draw_batch(60), draw_masks(60)
    seen, jittered = jitter_masks(image, mask, seed(), reach_px=3)
    assert (jittered >= mask).all()
    assert set(jittered.unique().tolist()) <= {0.0, 1.0}
    near = functional.max_pool2d(mask, 7, 1, 3)
    assert torch.equal(seen * (1 - near), image * (1 - near))
    assert torch.equal(seen * mask, image * mask)
    has_halo = (seen != image).flatten(1).any(1)
    is_larger = (jittered != mask).flatten(1).any(1)
    assert 5 < has_halo.sum() < 35
    assert 5 < is_larger.sum() < 35
    assert not (has_halo & is_larger).any()
    one = int(has_halo.nonzero()[0])
    change = (seen - image)[one].abs().mean(0)
    assert change[44, 10:60].mean() > change[46, 10:60].mean()  # it fades


def test_nothing_to_jitter() -> None:
    image, mask = draw_batch(), torch.zeros(6, 1, 96, 80)
    seen, jittered = jitter_masks(image, mask, seed())
    assert torch.equal(seen, image)
    assert torch.equal(jittered, mask)
