"""The super-resolution network: sizes, geometry, scaling, the paper's layers."""

import numpy as np
import pytest
import torch
from torch import nn

from raydeblend.networks.srgan import (
    FACTOR,
    Critic,
    CriticConfig,
    Srgan,
    SrganConfig,
    enlarge,
    pair_channels,
    source_target,
    stretch,
    unstretch,
)
from raydeblend.networks.weights import build_network

SMALL = SrganConfig(features=8, blocks=1, fine_features=8, fine_layers=1)


def convolution(inputs: int, outputs: int, kernel: int, bias: bool = True) -> int:
    return outputs * (inputs * kernel**2 + bias)


@pytest.mark.parametrize("bands", [1, 7])
def test_parameters_of_the_papers_size(bands: int) -> None:
    """Counted from the description: head, 8 blocks, transposed convolution, 2 layers, output."""
    norms = 2 * 128 * 16 + 2 * 64 * 3
    expected = convolution(bands, 128, 5) + 16 * convolution(128, 128, 3, bias=False)
    expected += convolution(128, 64, 9) + 2 * convolution(64, 64, 3, bias=False)
    expected += convolution(64, bands, 3) + norms
    network = build_network("srgan", {"bands": bands})
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize(("y", "x"), [(22, 22), (24, 31), (7, 9)])
def test_three_times_as_many_pixels(y: int, x: int) -> None:
    low = torch.randn(2, 7, y, x)
    high = Srgan(SrganConfig(bands=7, features=8, blocks=1, fine_features=8))(low)
    assert high.shape == (2, 7, FACTOR * y, FACTOR * x)
    assert high.abs().max() <= 1
    assert pair_channels(low, high).shape == (2, 14, FACTOR * y, FACTOR * x)


def test_the_upsampling_keeps_positions() -> None:
    """All weights equal: a coarse pixel spreads evenly about its own center, 3 p + 1."""
    network = Srgan(SMALL).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.fill_(1e-3)
                if module.bias is not None:
                    module.bias.zero_()
        low = torch.zeros(1, 1, 15, 15)
        low[0, 0, 8, 5] = 1.0
        image = network(low)[0, 0].double().numpy()
    y, x = np.indices(image.shape)
    assert (image * x).sum() / image.sum() == pytest.approx(3 * 5 + 1, abs=1e-3)
    assert (image * y).sum() / image.sum() == pytest.approx(3 * 8 + 1, abs=1e-3)
    grown = enlarge(low)[0, 0].numpy()
    assert (grown * x).sum() / grown.sum() == pytest.approx(16)


def test_stretch_keeps_surface_brightness_and_inverts() -> None:
    low = torch.tensor([[[[50.0]]]])
    high = torch.full((1, 1, 3, 3), 50.0 / 9)
    assert stretch(high, 12.0).mean() == pytest.approx(float(torch.asinh(low) / 12.0))
    image = 100 * torch.randn(2, 1, 6, 6)
    assert torch.allclose(unstretch(stretch(image, 12.0), 12.0), image, rtol=1e-4, atol=1e-4)


def test_layers_are_those_of_the_paper() -> None:
    kinds = [type(m) for m in Srgan(SMALL).modules()]
    assert {nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU} <= set(kinds)
    critic = [type(m) for m in Critic(CriticConfig(features=4)).modules()]
    assert {nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU} <= set(critic)
    assert Critic(CriticConfig(features=4))(torch.randn(3, 2, 66, 66)).shape == (3,)


def test_the_map_of_sources_has_a_bump_at_each() -> None:
    xy = torch.tensor([[[10.0, 20.0], [13.0, 20.0], [float("nan")] * 2], [[float("nan")] * 2] * 3])
    target = source_target(xy, (30, 40))
    assert target.shape == (2, 1, 30, 40)
    assert target[0, 0, 20, 10] == target[0, 0, 20, 13] == 1
    # A Gaussian of SOURCE_SIGMA; the higher one wins between two.
    assert float(target[0, 0, 22, 10]) == pytest.approx(np.exp(-4 / (2 * 1.5**2)), rel=1e-5)
    assert float(target[0, 0, 20, 11]) == pytest.approx(np.exp(-1 / (2 * 1.5**2)), rel=1e-5)
    assert target[1].abs().max() == 0


def test_a_network_with_a_map_gives_one_channel_more() -> None:
    config = SrganConfig(features=8, blocks=1, fine_features=8, fine_layers=1, sources=True)
    network = Srgan(config).eval()
    output = network(torch.zeros(2, 1, 8, 9))
    assert output.shape == (2, 2, 24, 27)
    # Before it is trained most of the sky is empty.
    assert float(torch.sigmoid(output[:, 1]).mean().detach()) < 0.1
