from dataclasses import replace

import galsim
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sky_tiles import PSF_SIGMA, SIGMA, add_stars, cut, make_tile, noise

from raydeblend.detect.background import REACH, subtract_background, without_background
from raydeblend.tile import Box


def sky_of(tile):
    return tile.image - subtract_background(tile).image


@pytest.mark.parametrize("level", [0.0, 7.3, -250.0])
def test_constant_sky_is_removed(level):
    rest = subtract_background(make_tile(noise((200, 240)) + level)).image
    assert np.abs(rest.mean((1, 2)) / SIGMA).max() < 0.03


def test_smooth_sky_is_followed():
    y, x = np.indices((400, 400)) / 400
    truth = 0.4 * SIGMA[:, None, None] * np.sin(2 * np.pi * x) * y
    error = sky_of(make_tile(noise((400, 400)) + truth)) - truth
    assert np.std(error / SIGMA[:, None, None]) < 0.05


def test_empty_sky_stays():
    sky = sky_of(make_tile(noise((400, 400))))
    assert np.abs(sky / SIGMA[:, None, None]).max() < 0.12
    assert np.std(sky / SIGMA[:, None, None]) < 0.03


def test_large_bright_galaxy_keeps_its_light():
    y, x = np.indices((400, 400)) - 200
    galaxy = 400 * np.exp(-np.hypot(x, 1.4 * y) / 12)
    taken = sky_of(make_tile(noise((400, 400)) + galaxy)) - sky_of(make_tile(noise((400, 400))))
    inside = np.hypot(x, 1.4 * y) < 60
    assert np.abs(taken[:, inside].sum(1)).max() < 0.01 * galaxy.sum()
    assert np.abs(taken / SIGMA[:, None, None]).max() < 0.15


def test_the_same_pixels_in_any_cut():
    rng = np.random.default_rng(1)
    image = add_stars(
        noise((700, 700)), rng.uniform(0, 700, (120, 2)), 10 ** rng.uniform(2, 4.5, 120)
    )
    tile = make_tile(image + gaussian_filter(rng.normal(0, 60, (700, 700)), 40))
    whole = subtract_background(tile).image
    for box in (Box(0, 0, 700, 370), Box(37, 101, 700, 700), Box(3, 7, 660, 690)):
        part = subtract_background(cut(tile, box)).image
        safe = box.grow(-REACH)
        safe = Box(
            0 if box.y0 == 0 else safe.y0,
            0 if box.x0 == 0 else safe.x0,
            700 if box.y1 == 700 else safe.y1,
            700 if box.x1 == 700 else safe.x1,
        )
        inside = safe.shift(-box.y0, -box.x0)
        np.testing.assert_array_equal(part[:, *inside.slices], whole[:, *safe.slices])


def test_field_smaller_than_a_window_gets_one_constant():
    sky = sky_of(make_tile(noise((40, 60)) + 20))
    assert np.ptp(sky, axis=(1, 2)).max() < 1e-4
    np.testing.assert_allclose(sky.mean((1, 2)), 20, atol=0.5)


def test_missing_band_and_bad_pixels_stay_untouched():
    tile = make_tile(noise((120, 120)) + 50)
    unusable = tile.unusable.copy()
    unusable[1] = True
    unusable[0, 10:14] = True
    image = np.where(unusable, 0, tile.image)
    out = subtract_background(replace(tile, unusable=unusable, image=image))
    assert not out.image[unusable].any()
    assert np.abs(np.median(out.image[0][~unusable[0]])) < 0.3


def test_nothing_usable():
    tile = make_tile(np.zeros((64, 64))[None])
    tile = replace(tile, unusable=np.ones_like(tile.unusable))
    np.testing.assert_array_equal(subtract_background(tile).image, tile.image)


def test_a_sky_that_was_taken_off_already_stays():
    tile = make_tile(noise((200, 240)) + 7.3)
    assert without_background(tile, "none") is tile
    np.testing.assert_array_equal(
        without_background(tile, "local").image, subtract_background(tile).image
    )


def sersic(index, radius, flux, shape, places):
    """Galaxies behind a Gaussian PSF, drawn by GalSim, ``(n, y, x)``."""
    profile = galsim.Sersic(n=index, half_light_radius=radius).withFlux(flux)
    seen = galsim.Convolve(profile, galsim.Gaussian(sigma=PSF_SIGMA))
    size = (shape[1], shape[0])
    middle = np.array([shape[1] - 1, shape[0] - 1]) / 2
    return np.stack(
        [seen.drawImage(nx=size[0], ny=size[1], scale=1, offset=xy - middle).array for xy in places]
    )


def largest_loss(galaxies):
    """Part of each galaxy's flux in each band, as its true profile would fit it, that sky takes."""
    image = noise(galaxies.shape[1:]) + galaxies.sum(axis=0)
    taken = sky_of(make_tile(image)) - sky_of(make_tile(noise(galaxies.shape[1:])))
    loss = np.einsum("byx,nyx->nb", taken, galaxies) / (galaxies**2).sum((1, 2))[:, None]
    return np.median(loss, axis=0).max()


def test_a_disk_of_30_pixels_keeps_its_light():
    """As bright as i = 17 with a half-light radius of 5 arcsec is at HSC's depth."""
    flux = 130_000 * SIGMA.mean()
    assert abs(largest_loss(sersic(1, 30, flux, (500, 500), [(250, 250)]))) < 0.02


@pytest.mark.parametrize(("radius", "snr_flux"), [(3, 2_000), (6, 20_000)])
def test_de_vaucouleurs_galaxies_keep_their_skirts(radius, snr_flux):
    places = np.stack(np.meshgrid(*[np.arange(60, 360, 80)] * 2), -1).reshape(-1, 2)
    assert abs(largest_loss(sersic(4, radius, snr_flux * SIGMA.mean(), (360, 360), places))) < 0.01
