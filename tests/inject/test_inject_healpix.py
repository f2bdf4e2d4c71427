"""HEALPix pixels against the package of the CDS, and by their areas."""

import numpy as np
import pytest

from raydeblend.inject.healpix import ring_pixels


def sphere(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


@pytest.mark.parametrize("nside", [1, 2, 8, 64, 1024])
def test_pixels_are_those_of_another_package(nside):
    cdshealpix = pytest.importorskip("cdshealpix.ring")
    units = pytest.importorskip("astropy.units")
    coordinates = pytest.importorskip("astropy.coordinates")
    ra, dec = sphere(20000)
    lon, lat = coordinates.Longitude(ra * units.deg), coordinates.Latitude(dec * units.deg)
    other = cdshealpix.lonlat_to_healpix(lon, lat, nside)
    np.testing.assert_array_equal(ring_pixels(nside, ra, dec), other)


def test_all_pixels_have_one_area():
    counts = np.bincount(ring_pixels(4, *sphere(200_000)), minlength=12 * 16)
    assert len(counts) == 12 * 16
    mean = 200_000 / len(counts)
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)


def test_a_turn_is_no_other_place():
    ra, dec = sphere(100)
    np.testing.assert_array_equal(ring_pixels(32, ra, dec), ring_pixels(32, ra - 360, dec))
