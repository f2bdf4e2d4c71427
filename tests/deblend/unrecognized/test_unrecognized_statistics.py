"""The statistics of suspects on galaxies that GalSim draws, against fits and expectations."""

import galsim
import numpy as np
import pytest

from raydeblend.deblend.unrecognized.config import LOOK
from raydeblend.deblend.unrecognized.statistics import (
    FEATURES,
    best_gain,
    features,
    join,
    view_sources,
)

SCALE, SIGMA, SIDE = 0.168, 1.8, 48
BANDS = 3


def psf():
    return galsim.Gaussian(sigma=SIGMA * SCALE)


def psf_stamp():
    return psf().drawImage(nx=31, ny=31, scale=SCALE).array.astype(np.float32)


def galaxy(flux, x=0.0, y=0.0, radius=0.4):
    light = galsim.Exponential(half_light_radius=radius, flux=flux).shift(x * SCALE, y * SCALE)
    image = galsim.Convolve(light, psf()).drawImage(nx=SIDE + 1, ny=SIDE + 1, scale=SCALE).array
    return np.repeat(image[None], BANDS, axis=0).astype(np.float32)


def views(image, models, xy):
    ones = np.ones_like(image)
    return view_sources(image, ones, np.zeros(image.shape, bool), models, np.array(xy, np.float32))


def test_of_a_perfect_model_nothing_is_left():
    model = galaxy(2000)
    seen = features(views(model, model[None], [[24, 24]]), (psf_stamp(),) * BANDS, SCALE)
    values = dict(zip(FEATURES, seen[0], strict=True))
    assert values["log_gain"] == pytest.approx(0, abs=1e-3)
    assert values["log_color_shift"] == pytest.approx(0, abs=1e-3)
    light = model[:, 8:40, 8:40]
    signal = (light**2 / (1 + (LOOK.model_error * light) ** 2)).sum()
    assert values["log_snr"] == pytest.approx(np.log(np.sqrt(signal)), rel=1e-5)
    assert values["ellipticity"] < 0.01
    assert values["log_size"] > 0


def freedom(flux, radius):
    """Return ``(5, y, x)``: how a round galaxy changes with x, y, radius and two shears."""
    light = galsim.Exponential(half_light_radius=radius, flux=flux)

    def draw(profile):
        return galsim.Convolve(profile, psf()).drawImage(nx=49, ny=49, scale=SCALE).array

    return [
        draw(light.shift(0.05 * SCALE, 0)) - draw(light.shift(-0.05 * SCALE, 0)),
        draw(light.shift(0, 0.05 * SCALE)) - draw(light.shift(0, -0.05 * SCALE)),
        draw(light.dilate(1.02)) - draw(light.dilate(0.98)),
        draw(light.shear(g1=0.02)) - draw(light.shear(g1=-0.02)),
        draw(light.shear(g2=0.02)) - draw(light.shear(g2=-0.02)),
    ]


@pytest.mark.parametrize(("x", "y"), [(6.0, 0.0), (4.0, 2.0)])
def test_the_gain_is_that_of_least_squares_with_the_galaxy_free(x, y):
    """Fitted with every parameter of the galaxy, derivatives by GalSim, with and without it."""
    model = galaxy(3000, radius=0.8)
    width = 1 / np.sqrt(2 * np.pi * psf_stamp().max() / psf_stamp().sum())
    point = galsim.Gaussian(sigma=width * SCALE).shift(x * SCALE, y * SCALE)
    point = point.drawImage(nx=49, ny=49, scale=SCALE, method="no_pixel").array
    image = model + 150 * point
    gain, where = best_gain(views(image, model[None], [[24, 24]]), width, 7.5)
    window = np.s_[..., 8:40, 8:40]
    root = 1 / np.sqrt(1 + (LOOK.model_error * model[window]) ** 2)

    def columns(images):
        return [(root * each[window]).ravel() for each in images]

    def alone(image):
        return [np.where(np.arange(BANDS)[:, None, None] == b, image, 0) for b in range(BANDS)]

    free = columns(alone(model[0])) + columns(
        np.repeat(each[None], 3, 0) for each in freedom(3000, 0.8)
    )
    both = np.array(free + columns(alone(point))).T
    data = (root * (image - model)[window]).ravel()
    _, rest, *_ = np.linalg.lstsq(np.array(free).T, data, rcond=None)
    _, full, *_ = np.linalg.lstsq(both, data, rcond=None)
    assert gain[0] == pytest.approx(float(rest[0] - full[0]), rel=0.2)
    np.testing.assert_allclose(where[0] - 16, [x, y], atol=1.5)


def test_a_shifted_galaxy_is_not_another_source():
    """What moving the model a little explains is projected out."""
    model = galaxy(2000)
    moved = galaxy(2000, x=0.1)
    plain = ((moved - model) ** 2).sum()
    gain, _ = best_gain(views(moved, model[None], [[24, 24]]), SIGMA, 7.0)
    assert gain[0] < 0.1 * plain


def test_noise_alone_gains_what_noise_gains():
    """Three fluxes, tried at some ten independent places: Δχ² of 4 to 12, never 30."""
    rng = np.random.default_rng(1)
    model = galaxy(2000)
    gains = []
    for _ in range(40):
        image = model + rng.normal(0, 1, model.shape).astype(np.float32)
        gains.append(best_gain(views(image, model[None], [[24, 24]]), SIGMA, 7.0)[0][0])
    assert 3 < np.median(gains) < 15
    assert max(gains) < 30


def test_bands_with_different_centers_show():
    model = galaxy(3000)
    image = model.copy()
    image[0], image[2] = galaxy(3000, x=0.3)[0], galaxy(3000, x=-0.3)[0]
    index = FEATURES.index("log_color_shift")
    shifted = features(views(image, model[None], [[24, 24]]), (psf_stamp(),) * BANDS, SCALE)
    assert shifted[0, index] > 1.5


def test_neighbors_are_taken_off_and_counted():
    models = np.stack([galaxy(2000), galaxy(1000, x=10)])
    both = views(models.sum(0), models, [[24, 24], [34, 24]])
    np.testing.assert_allclose(both.data, both.model, atol=1e-3)
    assert both.nearest.tolist() == [10, 10]
    assert both.n_sources.tolist() == [2, 2]
    seen = features(both, (psf_stamp(),) * BANDS, SCALE)
    width = 1 / np.sqrt(2 * np.pi * psf_stamp().max() / psf_stamp().sum())
    np.testing.assert_allclose(seen[:, FEATURES.index("nearness")], 1 / (1 + 10 / width), rtol=0.02)


def test_masked_pixels_and_borders_do_not_matter():
    model = galaxy(2000)
    image, unusable = model.copy(), np.zeros(model.shape, bool)
    image[:, 20:22, 30], unusable[:, 20:22, 30] = 1e6, True
    image[1], unusable[1] = np.nan, True
    seen = features(
        view_sources(
            image, np.ones_like(image), unusable, model[None], np.array([[24, 24]], np.float32)
        ),
        (psf_stamp(),) * BANDS,
        SCALE,
    )
    assert np.isfinite(seen).all()
    assert seen[0, FEATURES.index("log_gain")] < 0.01
    corner = views(model, model[None], [[2, 47]])
    assert corner.data.shape == (1, BANDS, 32, 32)


def test_a_footprint_without_sources_has_no_views():
    image = galaxy(100)
    none = views(image, np.zeros((0, *image.shape), np.float32), np.zeros((0, 2)))
    one = views(image, image[None], [[24, 24]])
    assert len(none) == 0
    assert len(join([none, one, one])) == 2
