"""Shift-Net: the hard shift to the bit, its gradient, its soft limit, and the network."""

import pytest
import torch

from restorepix.models.lab.shift_net import (
    ShiftNet,
    ShiftNetConfig,
    shift_features,
    shift_softly,
)


def make_case(seed=0):
    generator = torch.Generator().manual_seed(seed)
    decoded, encoded = torch.randn(2, 2, 5, 8, 8, generator=generator, dtype=torch.float64)
    hole = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    hole[0, :, 2:5, 2:6] = 1
    hole[1, :, 6:, 0:3] = 1
    return decoded, encoded, hole


def test_every_moved_vector_is_one_known_vector_to_the_bit():
    decoded, encoded, hole = make_case()
    shifted = shift_features(decoded, encoded, hole)
    vectors = encoded.flatten(2)
    for sample in range(2):
        for cell in range(64):
            source = int(shifted.sources[sample, cell])
            moved = shifted.features[sample].flatten(1)[:, cell]
            if hole[sample].flatten()[cell] == 0:
                assert source == -1
                assert moved.abs().max() == 0
                continue
            assert hole[sample].flatten()[source] == 0
            assert torch.equal(moved, vectors[sample, :, source])
            cosine = torch.nn.functional.cosine_similarity(
                decoded[sample].flatten(1)[:, cell, None], vectors[sample], dim=0
            )
            known = hole[sample].flatten() == 0
            assert cosine[source] == cosine[known].max()


def test_the_gradient_of_a_source_is_the_sum_of_those_it_went_to():
    decoded, encoded, hole = make_case()
    decoded.requires_grad_()
    encoded.requires_grad_()
    shifted = shift_features(decoded, encoded, hole)
    gradient = torch.randn_like(shifted.features)
    shifted.features.backward(gradient)
    assert decoded.grad is None
    for sample in range(2):
        taken = shifted.sources[sample] >= 0
        expected = torch.zeros(5, 64, dtype=torch.float64).index_add(
            1, shifted.sources[sample][taken], gradient[sample].flatten(1)[:, taken]
        )
        assert torch.allclose(encoded.grad[sample].flatten(1), expected)


def test_soft_attention_converges_to_the_hard_shift():
    decoded, encoded, hole = make_case()
    hard = shift_features(decoded, encoded, hole).features
    errors = [
        (shift_softly(decoded, encoded, hole, scale) - hard).abs().max().item()
        for scale in (10.0, 100.0, 10000.0)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


def test_a_sample_without_known_cells_moves_nothing():
    decoded, encoded, hole = make_case()
    hole[1] = 1
    shifted = shift_features(decoded, encoded, hole)
    assert shifted.features[1].abs().max() == 0
    assert (shifted.sources[1] == -1).all()
    assert shifted.features[0].abs().max() > 0


def test_the_network_takes_any_size_and_its_shift_matters():
    torch.manual_seed(0)
    network = ShiftNet(ShiftNetConfig(8, 5)).eval()
    image, mask = torch.rand(1, 3, 70, 90) * 2 - 1, torch.zeros(1, 1, 70, 90)
    mask[..., 20:50, 30:60] = 1
    with torch.no_grad():
        answer = network(image, mask).refined
        assert answer.shape == image.shape
        assert torch.equal(answer, network(torch.where(mask > 0, -image, image), mask).refined)
        network.config = ShiftNetConfig(8, 5, shift=False)
        assert not torch.equal(answer, network(image, mask).refined)
    with pytest.raises(ValueError, match="depth"):
        ShiftNet(ShiftNetConfig(8, 3))
