"""Cores of saturated stars: where the stars are, and what their masks hide."""

import galsim
import numpy as np
import pytest
from sky_tiles import make_tile, noise
from star_tiles import SIDE, Trail, draw, galaxy, saturated_tile, star, strip

from raydeblend.detect.cores import CoreConfig, with_cores
from raydeblend.detect.footprints import DetectConfig, find_blends

PLACE = (80.3, 79.6)
BRIGHT, BRIGHTER = 3e6, 2e7
"""Fluxes in nJy: cores of 3 and 7 pixels' radius."""
TRAILS = {
    "none": None,
    "narrow column": Trail(0.5, 30),
    "wide column": Trail(5.5, 25),
    "wider than the core": Trail(9, 25),
    "row": Trail(2.5, 40, 0.0),
    "slanted": Trail(3.5, 35, 0.6),
    "across the tile": Trail(3.5, SIDE, 1.2),
}


def peaks(tile):
    """Positions ``(n, 2)`` of all peaks in pixels of the tile."""
    return np.concatenate([blend.on_tile(blend.xy) for blend in find_blends(tile, DetectConfig())])


def away(xy, place=PLACE):
    return np.hypot(*(xy - np.array(place)).T)


@pytest.mark.parametrize("flux", [BRIGHT, BRIGHTER])
@pytest.mark.parametrize("name", TRAILS)
def test_a_star_has_one_peak_in_place_and_no_trail_has_any(name, flux):
    trail = TRAILS[name]
    trails = [(PLACE, trail)] if trail else []
    (xy,) = peaks(saturated_tile(star(flux, PLACE), trails))
    assert away(xy[None])[0] < 0.7


@pytest.mark.parametrize("band", range(3))
@pytest.mark.parametrize("grown", [0, 2])
def test_a_star_that_is_saturated_in_one_band_has_one_peak(band, grown):
    tile = saturated_tile(star(BRIGHT, PLACE), [(PLACE, TRAILS["slanted"])], [band], grown)
    (xy,) = peaks(tile)
    assert away(xy[None])[0] < 0.3


@pytest.mark.parametrize("place", [(2.2, 80.0), (80.4, SIDE - 3.0), (3.1, 4.0)])
def test_a_star_at_the_edge_has_one_peak(place):
    tile = saturated_tile(star(BRIGHTER, place), [(place, Trail(2, 30, 0.4))], seed=1)
    (xy,) = peaks(tile)
    assert away(xy[None], place)[0] < 1


def test_galaxies_beside_a_star_and_beside_its_trail_stay():
    places = [(112.0, 88.0), (87.0, 110.0), (60.0, 55.0)]
    light = star(BRIGHTER, PLACE) + sum(galaxy(3e4, place) for place in places)
    xy = peaks(saturated_tile(light, [(PLACE, Trail(2.5, 25))]))
    assert len(xy) == 4
    assert max(away(xy, place).min() for place in (PLACE, *places)) < 1


def test_two_stars_in_one_hole_are_two():
    places = [(60.2, 80.0), (97.6, 84.1)]
    light = star(BRIGHTER, places[0]) + star(BRIGHTER / 2, places[1])
    tile = saturated_tile(light, [(places[0], Trail(3.5, 45, 0.1))])
    xy = peaks(tile)
    assert len(xy) == 2
    assert max(away(xy, place).min() for place in places) < 1


def test_the_hidden_light_is_that_of_the_star():
    light = star(BRIGHTER, PLACE)
    tile = saturated_tile(light, [(PLACE, Trail(2.5, 15))])
    _, cores = with_cores(tile, CoreConfig())
    hidden = cores > 0
    assert hidden[tile.unusable].all()
    for band in range(3):
        found, true = (each[band][hidden[band]].sum() for each in (cores, light))
        assert found == pytest.approx(true, rel=0.03)


def test_its_variance_is_that_of_photons():
    tile = saturated_tile(star(BRIGHT, PLACE))
    guarded, cores = with_cores(tile, CoreConfig())
    hidden = cores[1] > 0
    slope = (guarded.variance[1][hidden] - 16) / cores[1][hidden]
    np.testing.assert_allclose(slope, 1 / 20, rtol=0.05)


@pytest.mark.parametrize("variance", [np.nan, np.inf, 0.0])
def test_the_variance_of_masked_pixels_may_be_anything(variance):
    tile = saturated_tile(star(BRIGHT, PLACE))
    (known,) = peaks(tile)
    tile.variance[tile.unusable] = variance
    (xy,) = peaks(tile)
    np.testing.assert_allclose(xy, known)


def test_beyond_the_psf_stamp_wings_go_on():
    """A hole larger than the stamp, of a Moffat profile whose wings fall as they are taken to."""
    psf = galsim.Moffat(beta=1.5, fwhm=4.0)
    tile = saturated_tile(draw([psf.withFlux(3e9)] * 3, PLACE, "no_pixel"))
    assert tile.saturated.sum() > 43**2
    _, cores = with_cores(tile, CoreConfig())
    y, x = np.unravel_index(np.argmax(cores[0]), cores[0].shape)
    assert np.hypot(x - PLACE[0], y - PLACE[1]) < 3


def test_what_is_left_of_the_charge_is_not_used_and_the_star_s_own_light_is():
    trail = Trail(1.5, 20)
    tile = saturated_tile(star(BRIGHT, PLACE), [(PLACE, trail)], grown=0)
    guarded, _ = with_cores(tile, CoreConfig())
    more = guarded.unusable & ~tile.unusable
    left = strip(PLACE, trail, 1.0) & ~strip(PLACE, trail)
    assert more[:, left].all()
    assert not more[:, ~left].any()


def test_saturated_pixels_without_a_star_hide_nothing():
    tile = make_tile(noise((80, 80)))
    tile.saturated[20:60, 40] = True
    tile.unusable[:, 20:60, 40] = True
    guarded, cores = with_cores(tile, CoreConfig())
    assert np.abs(cores).max() < 100
    assert not find_blends(guarded, DetectConfig())


def test_what_may_be_used_though_it_is_saturated_stays():
    tile = saturated_tile(star(BRIGHT, PLACE))
    tile.unusable[:] = False
    same, cores = with_cores(tile, CoreConfig())
    assert same is tile
    assert not cores.any()
