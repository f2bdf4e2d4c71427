"""What is added to an image, a constant or a gradient, changes neither sources nor their light."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.spatial import KDTree
from sky_tiles import SIGMA, add_stars, cut, gaussian_psf, make_tile, noise

from raydeblend.deblend.sep import classical_models
from raydeblend.detect.background import REACH, subtract_background
from raydeblend.detect.footprints import DetectConfig, find_blends
from raydeblend.measure.measure import measure_blends
from raydeblend.tile import Box

SIZE = 320
SHAPE = (SIZE, SIZE)
SCALE = 0.168
UNIT = SIGMA[:, None, None]
ADDED = {
    "-3": (-3, 0, 0), "-0.3": (-0.3, 0, 0), "0.1": (0.1, 0, 0), "0.2": (0.2, 0, 0),
    "0.4": (0.4, 0, 0), "0.6": (0.6, 0, 0), "3": (3, 0, 0), "1e4": (1e4, 0, 0),
    "along x": (0, 0.01, 0), "against y": (0, 0, -0.01), "both": (0.25, 0.006, -0.006),
}  # fmt: skip


def stars(density, seed):
    """Point sources per square arcminute, of 8 to 500 standard errors."""
    rng = np.random.default_rng(seed)
    n = int(density * (SIZE * SCALE / 60) ** 2)
    return rng.uniform(4, SIZE - 4, (n, 2)), 10 ** rng.uniform(2.2, 4, n)


def galaxy(radius, x0=SIZE / 2, y0=SIZE / 2):
    """An exponential disk that ends, at a tenth of a sigma of a pixel, so far from its middle."""
    y, x = np.indices(SHAPE)
    distance = np.hypot(x - x0, y - y0)
    return 20 * np.exp(-distance / radius * np.log(200)) * UNIT


@cache
def field(name):
    image = noise(SHAPE)
    if name == "galaxy":
        image += galaxy(100)
    return add_stars(image, *stars({"crowded": 80, "galaxy": 20, "empty": 20}[name], 1))


def plane(constant, along_x, along_y):
    y, x = np.indices(SHAPE) - (SIZE - 1) / 2
    return (constant + along_x * x + along_y * y) * UNIT


def clean(image, **changes):
    return subtract_background(replace(make_tile(image), **changes))


def peaks(tile):
    """Positions of all sources and their fluxes in each band, as those of stars."""
    xy = np.concatenate(
        [b.xy + np.array([b.box.x0, b.box.y0]) for b in find_blends(tile, DetectConfig())]
    )
    psf = gaussian_psf().astype(np.float64)
    padded = np.pad(tile.image.astype(np.float64), ((0, 0), (15, 15), (15, 15)))
    places = np.round(xy).astype(int)
    stamps = np.stack([padded[:, y : y + 31, x : x + 31] for x, y in places])
    return xy, (stamps * psf).sum((2, 3)) / (psf**2).sum()


@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize("name", ["empty", "crowded", "galaxy"])
def test_the_same_sources_whatever_is_added(name, added):
    xy, flux = peaks(clean(field(name)))
    other_xy, other_flux = peaks(clean(field(name) + plane(*ADDED[added])))
    distance, row = KDTree(other_xy).query(xy)
    assert len(xy) == len(other_xy) == len(np.unique(row))
    assert distance.max() < 1
    ratio = np.median(other_flux[row] / flux, axis=0)
    np.testing.assert_allclose(ratio, 1, atol=0.002)


def test_the_same_catalog_of_a_crowded_field():
    def catalog(image):
        tile = clean(image)
        blends = find_blends(tile, DetectConfig())
        found = [classical_models(b.image, b.variance, b.unusable) for b in blends]
        models, xy = zip(*found, strict=True)
        measured = measure_blends(blends, models, xy, tile.psf.at(0, 0), SCALE, "mixture")
        return np.concatenate([m.flux for m in measured])

    flux = catalog(field("crowded"))
    for added in ("0.2", "3"):
        other = catalog(field("crowded") + plane(*ADDED[added]))
        assert other.shape == flux.shape
        np.testing.assert_allclose(np.nanmedian(other / flux), 1, atol=1e-3)


@pytest.mark.parametrize("added", ["0.3", "1e4"])
def test_a_constant_is_sky_to_the_last_digit(added):
    for name in ("empty", "crowded", "galaxy"):
        more = clean(field(name) + float(added) * UNIT).image - clean(field(name)).image
        # The digits that float32 leaves an image of 1e4 sigma.
        assert np.abs(more / UNIT).max() < 1e-6 * float(added) + 1e-5


def test_sky_is_right_where_it_is_known():
    """Not only the same: the truth of the simulated fields is a sky of zero."""
    for name, tolerance in (("empty", 0.015), ("crowded", 0.04)):
        sky = field(name) + plane(*ADDED["both"]) - clean(field(name) + plane(*ADDED["both"])).image
        error = (sky - plane(*ADDED["both"])) / UNIT
        assert np.abs(error.mean((1, 2))).max() < tolerance
        assert error.std((1, 2)).max() < 0.04


@pytest.mark.parametrize("place", [(160, 160), (110, 200)])
def test_a_galaxy_of_200_pixels_keeps_its_light(place):
    image = noise(SHAPE)
    light = galaxy(100, *place)
    for constant in (0, 0.4, -2):
        taken = clean(image).image + light - clean(image + light + constant * UNIT).image
        assert np.abs(taken.sum((1, 2)) / light.sum((1, 2))).max() < 0.12
        assert np.abs(taken / UNIT).mean() < 0.12


def test_bands_have_skies_of_their_own():
    offsets = np.array([-250.0, 0.3, 4e3])[:, None, None]
    more = clean(field("crowded") + offsets).image - clean(field("crowded")).image
    assert np.abs(more).max() < 1e-3


def test_noise_that_steps_is_no_source():
    step = np.where(np.arange(SIZE) < 150, 1, 3)
    image = noise(SHAPE) * step
    variance = np.broadcast_to((UNIT * step) ** 2, image.shape).astype(np.float32)
    level = [clean(image + c * UNIT, variance=variance).image for c in (0, 0.3, 8)]
    for other in level[1:]:
        assert np.abs((other - level[0]) / UNIT).max() < 1e-4
    assert np.abs((image - level[0]) / UNIT / step).max() < 0.2


def test_what_is_unusable_tells_nothing():
    unusable = np.zeros((3, *SHAPE), dtype=bool)
    unusable[:, :, 200:] = True
    unusable[1, 40:90, 30:90] = True
    unusable[2, ::3, ::2] = True
    for constant in (0.0, 0.3, 50.0):
        image = np.where(unusable, 0, field("crowded") + constant * UNIT)
        rest = clean(image, unusable=unusable).image
        garbage = clean(np.where(unusable, 1e6, image), unusable=unusable).image
        np.testing.assert_array_equal(rest[~unusable], garbage[~unusable])
        if not constant:
            first = rest
        assert np.abs((rest - first) / UNIT)[~unusable].max() < 1e-4


@pytest.mark.parametrize("shape", [(40, 60), (60, 200), (33, 79), (90, 90)])
def test_small_fields_too(shape):
    image = noise(shape)
    rest, other = clean(image).image, clean(image + 0.4 * UNIT).image
    assert np.abs((rest - other) / UNIT).max() < 1e-4
    assert np.abs((image - rest) / UNIT).max() < 0.15


def at(tile, crpix):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], crpix
    return replace(tile, header=replace(tile.header, wcs=wcs.to_header().tostring()))


@pytest.mark.parametrize("x0", [37, 38, 101])
@pytest.mark.parametrize("crpix", [80.0, 80.5, -300.5, -301.5, 81.25])
def test_the_grid_is_that_of_the_sky_wherever_a_tile_starts(x0, crpix):
    size = REACH + 140
    image = noise((size, size + 120)) + np.arange(size + 120) * 0.02
    whole = subtract_background(at(make_tile(image), (crpix, crpix))).image
    part = make_tile(image[:, :, x0:])
    part = subtract_background(at(part, (crpix - x0, crpix))).image
    np.testing.assert_array_equal(part[:, :, REACH:], whole[:, :, x0 + REACH :])


def test_the_same_pixels_in_any_cut_with_holes_and_a_high_sky():
    shape = (620, 620)
    rng = np.random.default_rng(2)
    image = add_stars(noise(shape), rng.uniform(0, 620, (120, 2)), 10 ** rng.uniform(2, 4.5, 120))
    unusable = rng.random((3, *shape)) < 0.01
    unusable[:, 150:260, 190:240] = True
    tile = make_tile(np.where(unusable, 0, image + 3e3 + np.arange(620) * 0.03))
    tile = replace(tile, unusable=unusable)
    whole = subtract_background(tile).image
    for box in (Box(0, 0, 620, 400), Box(51, 85, 620, 620)):
        part = cut(tile, box)
        part = subtract_background(replace(part, unusable=unusable[:, *box.slices])).image
        y0, x0 = (start and start + REACH for start in (box.y0, box.x0))
        y1, x1 = (end if end == 620 else end - REACH for end in (box.y1, box.x1))
        safe = Box(y0, x0, y1, x1)
        inside = safe.shift(-box.y0, -box.x0)
        np.testing.assert_array_equal(part[:, *inside.slices], whole[:, *safe.slices])
