"""Context encoders: the channel-wise layer, sizes of all forms, features."""

import pytest
import torch

from restorepix.errors import UnsupportedError
from restorepix.models.lab.context_encoder import (
    FILL,
    AlexContextEncoder,
    ChannelwiseLinear,
    ContextEncoder,
    ContextEncoderConfig,
    fill_hole,
    find_neighbours,
)

SMALL = {"width": 24, "channels": 8}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_channelwise_layer_has_one_matrix_a_channel():
    layer = ChannelwiseLinear(256, 6)
    assert layer.weight.numel() == 256 * 6**4 == 331_776
    small = ChannelwiseLinear(3, 4).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    y = small(x)
    for channel in range(3):
        expected = x[:, channel].flatten(1) @ small.weight[channel].T + small.bias[channel]
        assert torch.allclose(y[:, channel].flatten(1), expected)


def test_moving_one_cell_moves_every_cell_of_its_channel_and_no_other():
    torch.manual_seed(0)
    layer = ChannelwiseLinear(3, 4)
    x = torch.randn(1, 3, 4, 4)
    moved = x.clone()
    moved[0, 1, 2, 3] += 1
    change = (layer(moved) - layer(x)).abs()[0]
    assert (change[1] > 0).all()
    assert change[0].max() == 0
    assert change[2].max() == 0


def test_parameters_of_the_published_forms():
    with torch.device("meta"):
        dense = ContextEncoder().eval()
        assert count(dense) == pytest.approx(71.1e6, rel=0.002)
        window = torch.zeros(1, 3, 128, 128)
        assert dense.squeeze(window, window[:, :1]).shape == (1, 4000, 1, 1)
        pointwise = ContextEncoder(ContextEncoderConfig(waist="pointwise"))
        assert count(pointwise) == pytest.approx(40.4e6, rel=0.002)
        alex = AlexContextEncoder()
        assert alex.encoder(torch.zeros(1, 3, 227, 227)).shape == (1, 256, 6, 6)
        assert alex.decoder(torch.zeros(1, 256, 6, 6)).shape == (1, 3, 161, 161)


def test_alexnet_form_answers_at_any_size_and_sees_everything_through_the_waist():
    torch.manual_seed(0)
    alex = AlexContextEncoder().eval()
    mask = torch.zeros(1, 1, 227, 227)
    mask[..., 60:160, 60:160] = 1
    with torch.no_grad():
        answer = alex(torch.rand(1, 3, 227, 227), mask)
        assert answer.refined.shape == (1, 3, 227, 227)
        assert alex.encode(torch.rand(1, 3, 227, 227), mask).shape == (1, 9216)
        assert alex(torch.rand(1, 3, 64, 96), mask[..., :64, :96]).refined.shape == (1, 3, 64, 96)


@pytest.mark.parametrize("waist", ["dense", "pointwise"])
@pytest.mark.parametrize("noise", [0, 5])
def test_the_centre_form_predicts_64_px_from_128(waist, noise):
    torch.manual_seed(0)
    encoder = ContextEncoder(ContextEncoderConfig("center", waist, noise=noise, **SMALL)).eval()
    image, mask = torch.rand(2, 3, 128, 128) * 2 - 1, torch.zeros(2, 1, 128, 128)
    mask[..., 40:80, 50:70] = 1
    with torch.no_grad():
        waist_map = encoder.squeeze(image, mask)
        assert waist_map.shape == (2, 24, *((1, 1) if waist == "dense" else (4, 4)))
        assert encoder.predict(image, mask).shape == (2, 3, 64, 64)
        answer = encoder(image, mask).refined
        assert answer.shape == image.shape
        assert answer[(mask == 0).expand_as(answer)].abs().max() == 0
        other = torch.where(mask > 0, -image, image)
        assert torch.equal(answer, encoder(other, mask).refined)


def test_the_centre_form_looks_at_one_window_a_part_and_refuses_larger_ones():
    torch.manual_seed(0)
    encoder = ContextEncoder(ContextEncoderConfig(**SMALL)).eval()
    image, mask = torch.rand(1, 3, 200, 220) * 2 - 1, torch.zeros(1, 1, 200, 220)
    mask[..., 72:128, 90:146] = 1  # 56 px, in the middle of its window
    mask[..., 0:9, 210:] = 1  # at the corner of the picture
    with torch.no_grad():
        answer = encoder(image, mask).refined
        window = image[..., 36:164, 54:182]
        middle = encoder.predict(window, encoder.hide_center(window))
    assert encoder.hide_center(window).sum() == 56 * 56
    assert torch.allclose(answer[..., 72:128, 90:146], middle[..., 4:60, 4:60], atol=1e-6)
    assert answer[..., 0:9, 210:].abs().max() > 0
    mask[..., 72:129, 90] = 1
    with pytest.raises(UnsupportedError, match="56 x 56 px, found one of 56 x 57"):
        encoder(image, mask)


def test_the_whole_form_takes_192_by_320_with_an_irregular_mask():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 192, 320) * 2 - 1
    mask = (torch.rand(1, 1, 192, 320) > 0.7).float()
    for waist in ("pointwise", "dense"):
        config = ContextEncoderConfig("whole", waist, **SMALL)
        with torch.no_grad():
            answer = ContextEncoder(config).eval()(image, mask).refined
        assert answer.shape == image.shape
        assert torch.isfinite(answer).all()
    pointwise = ContextEncoder(ContextEncoderConfig("whole", "pointwise", **SMALL)).eval()
    with torch.no_grad():
        assert pointwise(image[..., :37, :70], mask[..., :37, :70]).refined.shape == (1, 3, 37, 70)
        assert pointwise.predict(image[..., :128, :128], mask[..., :128, :128]).shape[-1] == 128


def test_holes_are_filled_with_the_published_colour():
    image, mask = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., 0, 0] = 1
    filled = fill_hole(image, mask)
    assert torch.allclose(filled[0, :, 0, 0], torch.tensor(FILL))
    assert filled[0, :, 1:].abs().max() == 0


def test_neighbours_are_by_cosine():
    bank = torch.eye(4)
    assert find_neighbours(torch.tensor([[0.1, 5.0, 1.0, 0.0]]), bank, 2).tolist() == [[1, 2]]


def test_names_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="form"):
        ContextEncoder(ContextEncoderConfig("corner"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="waist"):
        ContextEncoder(ContextEncoderConfig(waist="wasp"))  # pyright: ignore[reportArgumentType]
