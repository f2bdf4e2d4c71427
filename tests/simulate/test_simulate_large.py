"""Large galaxies: real images enlarged, with stars and galaxies about them."""

from dataclasses import replace

import numpy as np
from scipy.spatial.distance import cdist

from raydeblend.simulate.large import (
    MIN_R50,
    MOST_STRETCH,
    NEAREST,
    OTHERS,
    SPACING,
    STARS,
    large_scene,
)
from raydeblend.simulate.population.stamps import Stamps
from raydeblend.simulate.rendering import draw_sources
from raydeblend.survey import get_survey

HSC, BANDS, N = get_survey("HSC"), ("g", "i"), 9


def real_galaxies(radii: tuple[float, ...]) -> Stamps:
    """Round Gaussians of some half-light radii in arcsec; stamps have 0.06 arcsec a pixel."""
    y, x = np.indices((101, 101)) - 50
    sigma = np.array(radii) / 0.06 / 1.1774
    images = [np.exp(-(x**2 + y**2) / (2 * s**2)) / (2 * np.pi * s**2) for s in sigma]
    light = tuple(image.astype(np.float32) for image in images)
    number = 4_000_000 + np.arange(len(radii))
    brightness = np.full(len(radii), 20.0)
    return Stamps(light, light, number, brightness, np.array(radii), np.zeros((len(radii), 2)))


SCENE = large_scene(HSC, BANDS, N, 2, real_galaxies((0.5, 0.8)))
LARGE, OTHER_XY = SCENE.xy[:N], SCENE.xy[N:]
R50 = SCENE.galaxies.r50[:N]


def test_there_are_galaxies_and_stars_about_each() -> None:
    assert len(SCENE.galaxies) == N * (1 + OTHERS)
    assert SCENE.is_star.sum() == N * STARS
    away = cdist(OTHER_XY, LARGE)
    assert np.bincount(away.argmin(1), minlength=N).tolist() == [OTHERS + STARS] * N
    assert HSC.pixel_scale * away.min() > 0.999 * NEAREST
    assert (cdist(LARGE, LARGE) + SPACING * np.eye(N)).min() > 0.9 * SPACING


def test_they_are_large_and_their_images_not_stretched_too_far() -> None:
    galaxies = SCENE.galaxies
    assert np.median(R50) > 2
    assert (galaxies.stretch[:N] <= MOST_STRETCH).all()
    assert set(galaxies.stamp[:N]) <= {0, 1}
    np.testing.assert_allclose(R50, galaxies.stretch[:N] * np.array([0.5, 0.8])[galaxies.stamp[:N]])


def test_half_of_the_light_is_within_the_half_light_radius() -> None:
    alone = replace(SCENE, xy=SCENE.xy[:1], flux=SCENE.flux[:1], galaxies=SCENE.galaxies.take([0]))
    image = draw_sources(alone, SCENE.grid.box(0), 1)
    y, x = np.indices(image.shape)
    distance = HSC.pixel_scale * np.hypot(x - LARGE[0, 0], y - LARGE[0, 1])
    inside = image[distance < R50[0]].sum() / SCENE.flux[0, 1]
    # Of 2 arcsec or more the seeing of 0.6 takes little.
    assert abs(inside - 0.5) < 0.04


def test_small_and_faint_images_are_left_out() -> None:
    images = real_galaxies((0.8 * MIN_R50, 0.5, 0.6))
    faint = replace(images, magnitude=np.array([20.0, 20.0, 25.0]))
    assert set(large_scene(HSC, BANDS, N, 3, faint).galaxies.stamp[:N]) == {1}


def test_a_seed_gives_the_same_galaxies() -> None:
    again = large_scene(HSC, BANDS, N, 2, real_galaxies((0.5, 0.8)))
    assert np.array_equal(again.xy, SCENE.xy)
    assert np.array_equal(again.flux, SCENE.flux)
    other = large_scene(HSC, BANDS, N, 3, real_galaxies((0.5, 0.8)))
    assert not np.array_equal(other.flux, SCENE.flux)
