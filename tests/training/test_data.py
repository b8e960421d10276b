"""The photo cache and the batches gathered from it."""

import cv2
import numpy as np
import pytest
import torch

from training.data import SCALES, Batches, build_cache, gather_crops, list_images, open_cache


def write_png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for number, size in enumerate([(80, 100), (64, 64), (130, 70)]):
        write_png(folder / f"sub{number}" / "ä.png", rng.integers(0, 256, (*size, 3), np.uint8))
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_listing_is_sorted_and_honours_exclusions(photos):
    names = [path.parent.name for path in list_images(photos, exclude=["sub1/ä.png"])]
    assert names == ["sub0", "sub2"]


def test_the_cache_holds_the_pictures_and_their_smaller_scales(photos, tmp_path):
    paths = list_images(photos)
    count = build_cache(paths, tmp_path / "cache", min_side=48)
    pixels, index = open_cache(tmp_path / "cache", torch.device("cpu"))
    expected = sum(
        min(size) * scale >= 48 for size in [(80, 100), (64, 64), (130, 70)] for scale in SCALES
    )
    assert count == len(index) == expected
    offset, height, width = index[0].tolist()
    first = pixels[offset : offset + height * width * 3].view(height, width, 3).numpy()
    truth = cv2.imdecode(np.frombuffer(paths[0].read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(first, truth[..., ::-1])


def test_a_broken_picture_or_an_empty_folder_is_named(photos, tmp_path):
    (photos / "bad.png").write_bytes(b"not a png")
    with pytest.raises(ValueError, match=r"bad\.png: not a readable image"):
        build_cache(list_images(photos), tmp_path / "cache", 48)
    with pytest.raises(ValueError, match="no photographs"):
        build_cache([], tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="no cache here"):
        open_cache(tmp_path / "cache", torch.device("cpu"))


@pytest.mark.parametrize("symmetry", range(8))
def test_crops_are_the_pixels_under_every_symmetry(symmetry):
    image = torch.arange(20 * 30 * 3).remainder(251).to(torch.uint8).view(20, 30, 3)
    top, left, size = 4, 7, 8
    crop = gather_crops(
        image.flatten(),
        torch.tensor([(top * 30 + left) * 3]),
        torch.tensor([90]),
        torch.tensor([symmetry]),
        size,
        3,
    )[0]
    expected = image[top : top + size, left : left + size].permute(2, 0, 1)
    if symmetry & 1:
        expected = expected.flip(1)
    if symmetry & 2:
        expected = expected.flip(2)
    if symmetry & 4:
        expected = expected.transpose(1, 2)
    assert torch.equal(crop, expected)


def test_a_batch_depends_on_seed_and_step_alone(photos, tmp_path):
    build_cache(list_images(photos), tmp_path / "cache", min_side=48)
    pixels, index = open_cache(tmp_path / "cache", torch.device("cpu"))
    masks = (torch.rand(5, 48, 48) < 0.3).to(torch.uint8)

    def batches(seed):
        return Batches(pixels, index, masks, batch=6, seed=seed)

    image, mask = batches(1).draw(7)
    assert image.shape == (6, 3, 48, 48)
    assert image.min() >= -1
    assert image.max() <= 1
    assert mask.shape == (6, 1, 48, 48)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    again = batches(1).draw(7)
    assert torch.equal(image, again[0])
    assert torch.equal(mask, again[1])
    assert not torch.equal(image, batches(1).draw(8)[0])
    assert not torch.equal(image, batches(2).draw(7)[0])
