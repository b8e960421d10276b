"""The BYOL U-Net: any size, skips, and encoder weights that carry over."""

import torch

from restorepix.models.encoder import Encoder, EncoderConfig, adapt_state
from restorepix.models.lab.byol_unet import ByolUnet, ByolUnetConfig

SMALL = ByolUnetConfig((8, 8, 8, 8), (1, 1, 1, 1))


def test_any_size_and_nothing_leaks_from_the_hole():
    torch.manual_seed(0)
    network = ByolUnet(SMALL).eval()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    for size in ((37, 50), (1, 1), (64, 64)):
        image = torch.rand(2, 3, *size) * 2 - 1
        mask = (torch.rand(2, 1, *size) > 0.7).float()
        with torch.no_grad():
            answer = network(image, mask).refined
            other = network(torch.where(mask > 0, -image, image), mask).refined
        assert answer.shape == image.shape
        assert answer.abs().max() <= 1
        assert torch.equal(answer, other)


def test_a_pretrained_encoder_loads_strictly_and_ignores_the_mask_at_first():
    torch.manual_seed(0)
    pretrained = Encoder(EncoderConfig(3, SMALL.channels, SMALL.depths))
    network = ByolUnet(SMALL)
    network.encoder.load_state_dict(adapt_state(pretrained.state_dict(), 4))
    image = torch.rand(1, 3, 32, 32)
    seen = torch.cat([image, torch.rand(1, 1, 32, 32)], 1)
    for ours, theirs in zip(network.encoder(seen), pretrained(image), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_config_comes_from_tables_of_lists():
    assert ByolUnetConfig.from_mapping({"channels": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}) == SMALL
