"""A small sky of stars and galaxies apart from each other, and faults to plant in its files."""

import numpy as np
from astropy.io import fits
from scipy import ndimage

from raydeblend.simulate.population.draw import draw_realistic
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.population.stars import star_magnitudes
from raydeblend.simulate.rendering import MASK_PLANES
from raydeblend.simulate.scene import Grid, Scene
from raydeblend.simulate.tiles import tile_path, write_scene
from raydeblend.survey import NJY_ZERO_POINT, draw_psf, get_survey, psf_profile

BANDS = ("g", "r", "i")
SIZE, SPACING = 540, 60
TILE = "r00c00"


def write_sky(folder, seed):
    """Write one tile with about as many stars as galaxies."""
    rng = np.random.default_rng(seed)
    survey = get_survey("HSC")
    places = np.arange(SPACING / 2, SIZE, SPACING)
    xy = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2)
    xy = xy + rng.uniform(-10, 10, xy.shape)
    xy = xy[rng.permutation(len(xy))]
    n = len(xy) // 2
    galaxies = draw_realistic(rng.uniform(20.5, 22.5, n), BANDS, rng, find_stamps(None, "test"))
    stars = star_magnitudes(
        rng.uniform(19.5, 21.5, len(xy) - n), rng.uniform(0.4, 3.0, len(xy) - n), BANDS, rng
    )
    magnitude = np.concatenate([galaxies.magnitude, stars])
    flux = 10 ** (0.4 * (NJY_ZERO_POINT - magnitude))
    scene = Scene(survey, Grid(1, SIZE, 0, survey.pixel_scale), xy, flux, galaxies)
    write_scene(str(folder), scene, seed)


def change(folder, band):
    """Open a band's file for changes."""
    return fits.open(tile_path(str(folder), TILE, band), mode="update")


def misread_mask(folder):
    """Name the plane of detected pixels BAD, and that of bad ones DETECTED, in r."""
    with change(folder, "r") as hdus:
        image, sigma = hdus["IMAGE"].data, np.sqrt(hdus["VARIANCE"].data)
        detected = ndimage.gaussian_filter(image / sigma, 2) > 1
        hdus["MASK"].data |= detected.astype(np.int32) << MASK_PLANES["DETECTED"]
        hdus["MASK"].header["MP_BAD"] = MASK_PLANES["DETECTED"]
        hdus["MASK"].header["MP_DETECTED"] = MASK_PLANES["BAD"]


def misread_grown_mask(folder):
    """The same of footprints that are grown to where their light ends, as HSC's are."""
    misread_mask(folder)
    with change(folder, "r") as hdus:
        bit = 1 << MASK_PLANES["DETECTED"]
        grown = ndimage.binary_dilation(hdus["MASK"].data & bit, iterations=8)
        hdus["MASK"].data |= (grown * bit).astype(np.int32)


def mask_all(*bands, part=1.0, plane="BAD"):
    """Set a plane of the mask in the first part of all rows of some bands."""

    def plant(folder):
        for band in bands:
            with change(folder, band) as hdus:
                rows = int(part * SIZE)
                hdus["MASK"].data[:rows] |= 1 << MASK_PLANES[plane]

    return plant


def leave_cosmic_rays(folder):
    """Leave single pixels and straight tracks in r, of 40 times the noise."""
    rng = np.random.default_rng(7)
    with change(folder, "r") as hdus:
        light = 40 * np.sqrt(np.median(hdus["VARIANCE"].data))
        for y, x in rng.integers(10, SIZE - 10, (12, 2)):
            hdus["IMAGE"].data[y, x : x + rng.integers(1, 5)] += light


def lose_bad_plane(folder):
    """Let the pixels of a dead column be 0 without a word in the mask."""
    with change(folder, "r") as hdus:
        hdus["IMAGE"].data[:, 100] = 0
        hdus["MASK"].data[:, 100] = 0


def broaden_psf(*bands, by=1.1):
    """Write a PSF broader than that of the sky, in some bands."""

    def plant(folder):
        survey = get_survey("HSC")
        for band in bands:
            fwhm = by * survey.band(band).psf_fwhm
            with change(folder, band) as hdus:
                hdus["PSF"].data = draw_psf(psf_profile(survey, band, fwhm), survey.pixel_scale)

    return plant


def dim_band(band, magnitudes):
    """Write a zero point that makes a band's sources fainter."""

    def plant(folder):
        with change(folder, band) as hdus:
            hdus[0].header["FLUXMAG0"] *= 10 ** (0.4 * magnitudes)

    return plant


def shift_band(folder):
    """Move the pixels of i by one along the rows, under the same WCS."""
    with change(folder, "i") as hdus:
        for name in ("IMAGE", "MASK", "VARIANCE"):
            hdus[name].data = np.roll(hdus[name].data, 1, axis=1)


def halve_variance(folder):
    """Write half of the variance of g."""
    with change(folder, "g") as hdus:
        hdus["VARIANCE"].data /= 2


def leave_sky(folder, sigmas):
    """Leave a level of the sky in g."""
    with change(folder, "g") as hdus:
        hdus["IMAGE"].data += sigmas * np.sqrt(np.median(hdus["VARIANCE"].data))


def empty_band(folder):
    """Leave nothing in r."""
    with change(folder, "r") as hdus:
        hdus["IMAGE"].data[:] = 0


def blank_band(folder):
    """Leave no number in r."""
    with change(folder, "r") as hdus:
        hdus["IMAGE"].data[:] = np.nan
