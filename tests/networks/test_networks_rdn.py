from dataclasses import replace

import pytest
import torch

from raydeblend.networks.rdn import Rdn, RdnConfig, ResidualDenseBlock, widened

SMALL = RdnConfig(blocks=2, layers=2, features=8, growth=4)


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def convolution(inputs: int, outputs: int, side: int) -> int:
    return inputs * outputs * side * side + outputs


def test_paper_size_has_the_parameters_that_its_description_implies() -> None:
    # Section II.B with D = 16, C = 8; G_0 = G = 64 as in Zhang et al. 2018.
    block = sum(convolution(64 + 64 * c, 64, 3) for c in range(8)) + convolution(64 * 9, 64, 1)
    expected = (
        convolution(3, 64, 3)
        + convolution(64, 64, 3)
        + 16 * block
        + convolution(16 * 64, 64, 1)
        + 2 * convolution(64, 64, 3)
        + convolution(64, 3, 3)
    )
    with torch.device("meta"):
        assert count(Rdn(RdnConfig())) == expected


def test_every_layer_of_a_block_sees_all_maps_before_it() -> None:
    block = ResidualDenseBlock(features=8, growth=4, layers=3)
    assert [layer.in_channels for layer in block.layers] == [8, 12, 16]
    assert block.fusion.in_channels == 8 + 3 * 4
    assert block.fusion.kernel_size == (1, 1)


def test_a_block_whose_fusion_is_zero_is_the_identity() -> None:
    block = ResidualDenseBlock(features=8, growth=4, layers=3)
    torch.nn.init.zeros_(block.fusion.weight)
    torch.nn.init.zeros_(block.fusion.bias)
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize("downscale", [1, 2])
def test_receptive_field_grows_by_one_pixel_a_convolution(downscale: int) -> None:
    config = RdnConfig(blocks=2, layers=2, features=8, growth=4, downscale=downscale)
    network = Rdn(config)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.01)  # positive, so that no ReLU cuts a path
    x = torch.zeros(1, 3, 81, 81)[:, :, : 81 - 81 % downscale, : 81 - 81 % downscale]
    x = x.requires_grad_()
    network(x)[0, :, 40, 40].sum().backward()
    seen = (x.grad[0, 0] != 0).any(dim=0).nonzero()
    reach = int(seen.max() - seen.min()) + 1
    trunk = 2 + 2 * 2 + 1 + 1  # shallow, blocks, fusion, before the sub-pixel convolution
    if downscale == 1:
        assert reach == 2 * (trunk + 1) + 1  # and the output convolution
    else:
        # The output convolution touches 2 coarse pixels a side; each coarse pixel is 2 wide.
        assert reach == 2 * (2 * trunk + 2)


def test_output_has_the_size_of_the_input() -> None:
    network = Rdn(RdnConfig(in_channels=6, blocks=1, layers=1, features=4, growth=4, downscale=2))
    assert network(torch.zeros(2, 6, 24, 30)).shape == (2, 3, 24, 30)


def test_gradients_reach_every_parameter() -> None:
    network = Rdn(SMALL)
    network(torch.randn(1, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_widened_network_begins_as_it_was() -> None:
    torch.manual_seed(0)
    three = RdnConfig(in_channels=6, blocks=1, layers=2, features=8, growth=4, downscale=2)
    # Twice six scaled bands, and two planes of context of each.
    six = replace(three, in_channels=24, out_channels=6, context=True)
    earlier, network = Rdn(three), Rdn(six)
    network.load_state_dict(widened(earlier.state_dict(), "gri", "ugrizy", six))
    scaled = torch.randn(2, 2, 6, 16, 16)
    shown = torch.cat([scaled.flatten(1, 2), torch.randn(2, 12, 16, 16)], dim=1)
    expected = earlier(scaled[:, :, 1:4].flatten(1, 2))
    # The nearest known band's model is that of u, z and y.
    torch.testing.assert_close(network(shown), expected[:, [0, 0, 1, 2, 2, 2]])
