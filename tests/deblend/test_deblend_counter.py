"""The shipped counter on stamps of all sizes that a deblender promises to take."""

import numpy as np
import pytest
import torch

from raydeblend.deblend.counter import MIN_SIDE, GalaxyCounter

N = 24
SIGMA = 2.0


@pytest.fixture(scope="module")
def counter():
    return GalaxyCounter.load(device="cpu")


def stamps(size, apart, n_galaxies):
    """Noise of unit variance and round galaxies of 60 sigma at their peaks, side by side."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    image = np.random.default_rng(size).normal(0, 1, (N, 3, size, size))
    for side in (0,) if n_galaxies == 1 else (-0.5, 0.5)[:n_galaxies]:
        image += 60 * np.exp(-((x - side * apart) ** 2 + y**2) / (2 * SIGMA**2))
    return torch.from_numpy(image.astype(np.float32))


@pytest.mark.parametrize("size", [24, 32, 40, 48, 64])
@pytest.mark.parametrize("n_galaxies", [0, 1, 2])
def test_the_counter_counts_on_stamps_of_every_size(counter, size, n_galaxies):
    counts = counter(stamps(size, 11.0, n_galaxies).numpy())
    assert np.mean(counts == n_galaxies) >= 0.9


def test_small_stamps_are_counted_as_in_empty_sky(counter):
    small = stamps(25, 11.0, 2)
    padded = torch.zeros(N, 3, MIN_SIDE, MIN_SIDE)
    padded[:, :, 11:36, 11:36] = small
    with torch.inference_mode():
        one, other = (counter.probabilities(image) for image in (small, padded))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one.sum(1), torch.ones(N))


def test_the_network_alone_fails_on_small_stamps(counter):
    """The defect that the padding mends: should a counter not have it, the padding can go."""
    channels, _ = counter.scaling.apply(stamps(24, 11.0, 0))
    with torch.inference_mode():
        assert np.mean(counter.network(channels).argmax(1).numpy() == 0) < 0.5
