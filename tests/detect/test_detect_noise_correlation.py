"""Noise on the scale of sources: white, resampled, and with sources below the threshold."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sky_tiles import PSF_SIGMA, SIGMA, make_tile, noise, point_source_error

from raydeblend.detect.footprints import detection_image
from raydeblend.detect.noise_correlation import blank_sky, noise_ratios, with_noise
from raydeblend.simulate.resampling import lanczos_weights, resample

SHAPE = (700, 700)
NONE = [None] * 3


def ratios(tile, drawn=NONE):
    return noise_ratios([blank_sky(tile, drawn)], [one is not None for one in drawn])


def resampled(seed=0):
    """Noise of each band as a coadd's, with its own variance."""
    pairs = [
        resample(n, np.full(SHAPE, s**2)) for n, s in zip(noise(SHAPE, seed), SIGMA, strict=True)
    ]
    images, variances = (np.stack(column) for column in zip(*pairs, strict=True))
    return images, np.sqrt(variances[:, 0, 0])


def expected_ratio():
    """Σ_l ρ(l) κ(l): the noise's autocorrelation seen through that of the matched filter."""
    weights = lanczos_weights()
    rho = np.correlate(weights, weights, "full") / (weights**2).sum()
    lag = np.arange(len(rho)) - len(rho) // 2
    # The variance of one axis is the ratio of both.
    return float((rho * np.exp(-(lag**2) / (4 * PSF_SIGMA**2))).sum())


def stars(image, density, significance, seed=3):
    """Add stars, so many on a million pixels, of a significance in all bands together."""
    rng = np.random.default_rng(seed)
    n = int(density * image[0].size / 1e6)
    points = np.zeros(SHAPE)
    y, x = rng.integers(0, SHAPE[0], (2, n))
    np.add.at(points, (y, x), point_source_error() * rng.uniform(*significance, n))
    return image + gaussian_filter(points, PSF_SIGMA)


def test_white_noise_is_that_of_independent_pixels():
    tile = make_tile(stars(noise(SHAPE), 300, (6, 60)))
    assert ratios(tile) == pytest.approx(np.ones(3), abs=0.02)


def test_resampled_noise_is_larger_than_its_pixels_say():
    image, sigma = resampled()
    tile = make_tile(stars(image, 300, (6, 60)), sigma=sigma)
    assert expected_ratio() == pytest.approx(1.275, abs=0.01)
    assert ratios(tile) == pytest.approx(np.full(3, expected_ratio()), rel=0.025)


def test_a_variance_that_is_too_small_counts_too():
    assert ratios(make_tile(noise(SHAPE), sigma=SIGMA / 1.2)) == pytest.approx(
        np.full(3, 1.2), abs=0.025
    )


def test_sources_that_nobody_sees_are_no_noise():
    """One band alone takes them for noise; three know better."""
    image = stars(stars(noise(SHAPE), 300, (6, 60)), 1500, (2, 4.5), seed=4)
    tile = make_tile(image - image.mean((1, 2), keepdims=True))
    single = make_tile(tile.image[:1])
    fooled = noise_ratios([blank_sky(single, NONE[:1])], [False])[0]
    found = ratios(tile)
    assert fooled - 1 > 0.015
    assert found == pytest.approx(np.ones(3), abs=0.02)


def test_a_noise_realization_tells_it_without_the_sky():
    image, sigma = resampled()
    drawn, _ = resampled(seed=9)
    tile = make_tile(stars(image, 2000, (2, 40)), sigma=sigma)
    found = ratios(tile, [drawn[0].astype(np.float32), None, None])
    assert found[0] == pytest.approx(expected_ratio(), rel=0.02)


def test_too_little_sky_tells_nothing():
    tile = make_tile(noise((90, 90)))
    assert np.isnan(ratios(tile)).all()
    np.testing.assert_array_equal(with_noise(tile, ratios(tile)).variance, tile.variance)


def test_a_missing_band_leaves_the_others():
    tile = make_tile(noise(SHAPE))
    unusable = tile.unusable.copy()
    unusable[1] = True
    found = ratios(replace(tile, unusable=unusable, image=np.where(unusable, 0, tile.image)))
    assert np.isnan(found[1])
    assert found[[0, 2]] == pytest.approx(np.ones(2), abs=0.025)


def test_detection_is_as_rare_as_in_white_noise():
    image, sigma = resampled()
    tile = make_tile(image, sigma=sigma)
    inner = (slice(20, -20),) * 2
    assert detection_image(tile)[inner].std() == pytest.approx(expected_ratio(), rel=0.02)
    corrected = with_noise(tile, ratios(tile))
    assert detection_image(corrected)[inner].std() == pytest.approx(1, abs=0.03)
