"""The branched network and its discriminator, against what their descriptions imply."""

import itertools
from dataclasses import replace

import torch
from torch import nn

from raydeblend.networks.branched import (
    Branched,
    BranchedConfig,
    Discriminator,
    DiscriminatorConfig,
    ResidualChain,
)

SMALL = BranchedConfig(root=2, branch=1, features=8, ends=3, norm=False, fine=4, head="gate")


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def block(width: int) -> int:
    """Two 3x3 convolutions without bias, two norms, one slope for each feature."""
    return 2 * (9 * width**2 + 2 * width) + width


def test_paper_size_has_the_parameters_that_its_description_implies() -> None:
    # Section 2.1: (M, N) = (10, 6); widths and the 9x9 ends as in SRGAN's figure 4.
    after = 9 * 64**2 + 2 * 64
    first = 81 * 3 * 64 + 64 + 64
    branch = 6 * block(64) + after + 81 * 64 * 3 + 3
    with torch.device("meta"):
        assert count(Branched(BranchedConfig())) == first + 10 * block(64) + after + 2 * branch


def test_paper_discriminator_has_the_parameters_that_its_description_implies() -> None:
    widths = [3, 64, 64, 128, 128, 256, 256, 512, 512]
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(widths))
    norms = 2 * sum(widths[2:])
    dense = 512 * 5 * 5 * 1024 + 1024 + 1024 + 1
    with torch.device("meta"):
        network = Discriminator(DiscriminatorConfig())
    # The first convolution has a bias in place of a norm.
    assert count(network) == convolutions + 64 + norms + dense


def test_strides_of_the_discriminator_alternate_and_leave_a_grid_of_five() -> None:
    network = Discriminator(DiscriminatorConfig(features=4, hidden=8))
    layers = [layer for layer in network.convolutions if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in layers] == [(2, 2), (1, 1)] * 4
    assert all(layer.kernel_size == (3, 3) for layer in layers)
    images = torch.rand(2, 3, 80, 80)
    assert network.convolutions(images).shape == (2, 32, 5, 5)
    assert network(images).shape == (2,)


def test_without_norm_blocks_start_as_the_identity_and_with_it_they_do_not() -> None:
    x = torch.rand(1, 8, 12, 12)
    for layer in ResidualChain(3, 8, norm=False).body[:-1]:
        torch.testing.assert_close(layer(x), x + layer.body[-1].bias[:, None, None])
    assert not torch.allclose(ResidualChain(1, 8, norm=True).body[0](x), x, atol=0.1)


def test_refining_blocks_start_as_the_identity_so_that_earlier_weights_fit() -> None:
    earlier = Branched(replace(SMALL, downscale=2))
    refined = Branched(replace(SMALL, downscale=2, refine=2))
    missing, unexpected = refined.load_state_dict(earlier.state_dict(), strict=False)
    assert not unexpected
    assert all(".refine." in name for name in missing)
    image = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(refined(image), earlier(image))
    # Four features and three colors in, eight features between.
    block = (4 + 3) * 8 * 9 + 8 + 8 + 8 * 4 * 9 + 4
    assert count(refined) - count(earlier) == 2 * 2 * block


def test_refining_blocks_see_single_pixels_of_the_image() -> None:
    network = Branched(replace(SMALL, downscale=4, refine=1))
    for branch in network.branches:
        nn.init.normal_(branch.refine[0].body[-1].weight, std=0.1)
    x = torch.rand(1, 4, 24, 24)
    image = torch.rand(1, 3, 24, 24, requires_grad=True)
    block = network.branches[0].refine[0]
    block(x, image)[0, :, 12, 12].sum().backward()
    seen = image.grad.abs().sum(dim=(0, 1)).nonzero()
    # Two convolutions of 3 x 3.
    assert seen.amin(dim=0).tolist() == [10, 10]
    assert seen.amax(dim=0).tolist() == [14, 14]


def test_a_stretched_input_is_its_arcsinh_beside_it() -> None:
    network = Branched(replace(SMALL, stretch=0.02, stem=5))
    plain = Branched(replace(SMALL, in_channels=6, stem=5))
    plain.load_state_dict(network.state_dict())
    image = torch.rand(2, 3, 24, 24)
    both = torch.cat([image, torch.asinh(image / 0.02)], dim=1)
    torch.testing.assert_close(network(image), plain(both))


def test_a_gate_starts_from_half_of_the_input() -> None:
    network = Branched(SMALL)
    for branch in network.branches:
        nn.init.zeros_(branch.output.weight)
        nn.init.zeros_(branch.output.bias)
    image = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(network(image), torch.stack([image / 2] * 2, dim=1))


def test_the_branches_share_the_root_and_nothing_else() -> None:
    network, image = Branched(SMALL), torch.rand(1, 3, 24, 24)
    before = network(image)
    with torch.no_grad():
        for parameter in network.branches[1].parameters():
            parameter += 0.1
    after = network(image)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1], before[:, 1])
    after[:, 0].sum().backward()
    assert network.root.body[0].body[0].weight.grad is not None
    assert not any(p.grad.any() for p in network.branches[1].parameters())


def test_heads_and_scales_keep_the_size_and_the_range() -> None:
    image = torch.rand(2, 5, 24, 32)
    for head in ("tanh", "gate", "linear"):
        for downscale in (1, 2, 4):
            config = replace(SMALL, in_channels=5, head=head, downscale=downscale)
            output = Branched(config)(image)
            assert output.shape == (2, 2, 3, 24, 32)
            if head == "tanh":
                assert output.min() >= 0
                assert output.max() <= 1
