"""The GAN's layers against the paper's text, and its size against a formula of its own."""

import itertools

import pytest
import torch
from torch import nn

from raydeblend.networks.gan import GROUP, Discriminator, GanConfig, Generator, Spread


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_paper_size_has_the_parameters_of_dcgan() -> None:
    # Radford et al. 2016, Fig. 1, for 64 pixels and one channel: 100 -> 512 x 4 x 4 -> 256 -> 128
    # -> 64 -> 1, kernels of 4; weights without bias but in the last layer, two numbers a map for
    # batch normalization.
    widths = [100, 512, 256, 128, 64]
    layers = itertools.pairwise(widths)
    generator = sum(16 * a * b + 2 * b for a, b in layers) + 16 * 64 + 1
    # The discriminator mirrors it; its first layer has a bias instead of a normalization.
    widths = [64, 128, 256, 512]
    layers = itertools.pairwise(widths)
    discriminator = 16 * 64 + 64 + sum(16 * a * b + 2 * b for a, b in layers) + 16 * 512 + 1
    with torch.device("meta"):
        assert count(Generator(GanConfig())) == generator
        assert count(Discriminator(GanConfig())) == discriminator


def test_layers_are_those_of_section_3() -> None:
    kinds = {type(layer) for layer in Generator(GanConfig(features=4)).layers}
    assert kinds == {nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU, nn.Tanh}
    kinds = {type(layer) for layer in Discriminator(GanConfig(features=4)).layers}
    assert kinds == {nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU}


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 7])
def test_shapes(size: int, channels: int) -> None:
    config = GanConfig(channels, noise=10, size=size, features=4)
    images = Generator(config)(torch.randn(3, 10))
    assert images.shape == (3, channels, size, size)
    assert images.abs().max() <= 1
    assert Discriminator(config)(images).shape == (3,)


def test_gradients_reach_every_parameter() -> None:
    config = GanConfig(noise=8, size=16, features=4)
    generator, discriminator = Generator(config), Discriminator(config)
    discriminator(generator(torch.randn(6, 8))).square().sum().backward()
    for network in (generator, discriminator):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_spread_of_each_group_is_a_map_of_its_own() -> None:
    maps = torch.randn(2 * GROUP + 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    maps[GROUP : 2 * GROUP] = maps[GROUP]
    seen = Spread()(maps)
    assert torch.equal(seen[:, :5], maps)
    expected = [maps[:GROUP].std(dim=0, correction=0).mean(), torch.tensor(1e-4)]
    for group, value in zip(seen[: 2 * GROUP, 5].split(GROUP), expected, strict=True):
        torch.testing.assert_close(group, value.expand_as(group))
    assert seen[-1, 5, 0, 0] > 0.5


def test_a_discriminator_of_spreads_has_one_more_map_at_its_end() -> None:
    plain, with_spread = (Discriminator(GanConfig(features=4, spread=on)) for on in (False, True))
    assert count(with_spread) == count(plain) + 4 * 4
    alike = torch.rand(1, 1, 64, 64).expand(GROUP, -1, -1, -1)
    assert with_spread(alike).shape == (GROUP,)
