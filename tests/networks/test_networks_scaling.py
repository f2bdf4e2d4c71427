import numpy as np
import torch

from raydeblend.networks.scaling import Scaling


def test_maximum_divides_by_the_brightest_pixel_of_all_bands() -> None:
    image = torch.rand(2, 3, 8, 8) * 5 + 5
    image[0, 1, 2, 3] = 40
    channels, maximum = Scaling("maximum").apply(image)
    assert maximum[0].item() == 40
    torch.testing.assert_close(channels * maximum, image)
    assert channels.max() == 1


def test_a_stamp_of_noise_is_not_blown_up() -> None:
    _, maximum = Scaling("maximum").apply(torch.full((1, 3, 4, 4), -0.2))
    assert maximum.item() == 1


def test_both_kinds_of_channels_stand_side_by_side() -> None:
    image = torch.linspace(-3, 100, 3 * 16).reshape(1, 3, 4, 4)
    channels, _ = Scaling("maximum+asinh", softening=5).apply(image)
    assert channels.shape[1] == Scaling("maximum+asinh").channels(3) == 6
    np.testing.assert_allclose(channels[:, 3:], np.arcsinh(image.numpy()) / 5, rtol=1e-6)
    np.testing.assert_allclose(channels[:, :3], image.numpy() / 100, rtol=1e-6)
