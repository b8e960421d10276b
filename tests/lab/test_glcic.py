"""GLCIC: parameters, any size, and its post-processing."""

import cv2
import numpy as np
import pytest
import torch

from restorepix.models.lab.glcic import Glcic, GlcicConfig, blend
from restorepix.models.lab.poisson import solve_poisson


def test_parameters_are_the_published_ones():
    with torch.device("meta"):
        network = Glcic()
    layers = [
        m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ]
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == 6_066_179


def test_any_size_and_nothing_leaks_from_the_hole():
    torch.manual_seed(0)
    network = Glcic(GlcicConfig(8)).eval()
    image, mask = torch.rand(1, 3, 37, 50) * 2 - 1, torch.zeros(1, 1, 37, 50)
    mask[..., 10:20, 10:30] = 1
    with torch.no_grad():
        answer = network(image, mask).refined
        assert answer.shape == image.shape
        assert answer.abs().max() <= 1
        assert torch.equal(answer, network(torch.where(mask > 0, -image, image), mask).refined)


def make_ramp():
    rows, columns = np.mgrid[0:40, 0:50]
    image = np.stack([rows * 3 + 20, columns * 2 + 50, rows + columns + 60], 2).astype(np.uint8)
    mask = np.zeros((40, 50), np.bool_)
    mask[12:28, 15:35] = True
    return image, mask


def test_poisson_keeps_the_gradients_of_the_source_and_the_colours_of_the_base():
    image, mask = make_ramp()
    base = image.astype(np.float64)
    # The truth, too dark by 30: its gradients are right, so the answer is the truth.
    solved = solve_poisson(np.where(mask[..., None], 0, base), base - 30, mask, tolerance=1e-9)
    assert np.abs(solved - base).max() < 1e-3
    assert np.array_equal(solved[~mask], base[~mask])


@pytest.mark.parametrize("at_border", [False, True])
def test_poisson_equals_a_dense_solve(at_border):
    rng = np.random.default_rng(0)
    base, source = rng.random((2, 7, 8, 2))
    region = np.zeros((7, 8), np.bool_)
    region[(0 if at_border else 2) : 5, 3:6] = True
    cells = [tuple(cell) for cell in np.argwhere(region)]
    matrix, right = np.zeros((len(cells), len(cells))), np.zeros((len(cells), 2))
    for row, (y, x) in enumerate(cells):
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if not (0 <= near[0] < 7 and 0 <= near[1] < 8):
                continue
            matrix[row, row] += 1
            right[row] += source[y, x] - source[near]
            if region[near]:
                matrix[row, cells.index(near)] -= 1
            else:
                right[row] += base[near]
    expected = np.linalg.solve(matrix, right)
    solved = solve_poisson(base, source, region, tolerance=1e-12)
    assert np.abs(solved[region] - expected).max() < 1e-8


def test_poisson_of_nothing_and_of_everything():
    base, source = np.zeros((4, 4, 1)), np.ones((4, 4, 1))
    nothing, everything = np.zeros((4, 4), np.bool_), np.ones((4, 4), np.bool_)
    assert np.array_equal(solve_poisson(base, source, nothing), base)
    assert np.array_equal(solve_poisson(base, source, everything), source)


def test_blending_corrects_a_prediction_of_the_wrong_brightness():
    image, mask = make_ramp()
    damaged = np.where(mask[..., None], 255, image).astype(np.uint8)
    dark = image - np.uint8(20)
    blended = blend(damaged, dark, mask)
    assert np.array_equal(blended[~mask], image[~mask])
    before = np.abs(dark.astype(int) - image)[mask].mean()
    after = np.abs(blended.astype(int) - image)[mask].mean()
    assert after < before / 4
    # A mask that touches the border, and one of a single pixel.
    mask[:, :20] = True
    assert np.array_equal(blend(damaged, dark, mask)[~mask], damaged[~mask])
    single = np.zeros_like(mask)
    single[5, 5] = True
    telea = cv2.inpaint(image, single.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    assert np.array_equal(blend(image, dark, single), telea)


def test_a_network_that_blends_answers_what_blending_gives_and_only_in_evaluation():
    torch.manual_seed(0)
    network = Glcic(GlcicConfig(channels=4, blend=True)).eval()
    plain = Glcic(GlcicConfig(channels=4)).eval()
    plain.load_state_dict(network.state_dict())
    image = torch.rand(2, 3, 24, 28) * 2 - 1
    mask = torch.zeros(2, 1, 24, 28)
    mask[0, :, 5:15, 6:20] = 1
    mask[1, :, 10:12, 3:9] = 1
    with torch.inference_mode():
        blended, raw = network(image, mask).refined, plain(image, mask).refined
    pixels, guess, found = (
        ((batch + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        for batch in (image, raw, blended)
    )
    for sample in range(2):
        expected = blend(pixels[sample], guess[sample], mask[sample, 0].numpy() > 0)
        assert np.array_equal(found[sample], expected)
    with torch.no_grad():
        assert torch.equal(network.train()(image, mask).refined, plain.train()(image, mask).refined)
