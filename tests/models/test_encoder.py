"""Encoder and detector: shapes, budget, transfer of tensors, padding."""

from __future__ import annotations

import pytest
import torch

from restorepix.models.detector import Detector, DetectorConfig, count_parameters, predict
from restorepix.models.encoder import Encoder, EncoderConfig, adapt_state

SMALL = EncoderConfig(channels=(8, 8, 16, 16), depths=(1, 1, 1, 1))


def test_features_come_at_four_scales() -> None:
    features = Encoder(SMALL)(torch.zeros(2, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [
        (2, 8, 16, 24), (2, 8, 8, 12), (2, 16, 4, 6), (2, 16, 2, 3)
    ]  # fmt: skip


def test_detector_keeps_the_parameter_budget() -> None:
    assert count_parameters(Detector()) <= 4_000_000


def test_detector_costs_no_more_than_40_kmac_a_pixel() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Detector()(torch.zeros(1, 3, 128, 128))
    assert counter.get_total_flops() / 2 / 128**2 <= 40_000


def test_an_encoder_for_four_channels_starts_as_that_for_three() -> None:
    torch.manual_seed(0)
    plain = Encoder(SMALL)
    wide = Encoder(EncoderConfig(in_channels=4, channels=SMALL.channels, depths=SMALL.depths))
    wide.load_state_dict(adapt_state(plain.state_dict(), 4))
    image, hole = torch.randn(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    for ours, theirs in zip(wide(torch.cat([image, hole], 1)), plain(image), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_adapting_to_fewer_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 2"):
        adapt_state(Encoder(SMALL).state_dict(), 2)


def test_encoder_tensors_load_strictly_into_a_detector() -> None:
    encoder, detector = Encoder(SMALL), Detector(DetectorConfig(encoder=SMALL))
    detector.encoder.load_state_dict(encoder.state_dict())
    for mine, theirs in zip(
        detector.encoder.state_dict().values(), encoder.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("size", [(1, 1), (5, 90), (16, 16), (33, 31), (64, 64)])
def test_any_size_gets_a_probability_for_every_pixel(size: tuple[int, int]) -> None:
    detector = Detector(DetectorConfig(encoder=SMALL)).eval()
    with torch.no_grad():
        probabilities = predict(detector, torch.rand(1, 3, *size) * 2 - 1)
    assert probabilities.shape == (1, 3, *size)
    assert bool(torch.isfinite(probabilities).all())
    assert float(probabilities.max()) < 0.5  # fresh weights see nothing


def test_a_tile_does_not_depend_on_the_others_of_its_batch() -> None:
    detector = Detector(DetectorConfig(encoder=SMALL)).eval()
    tiles = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        together = detector(tiles)
        alone = torch.cat([detector(tile[None]) for tile in tiles])
    assert torch.allclose(together, alone, atol=1e-5)
