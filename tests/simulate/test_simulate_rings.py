"""Rings: turned and sheared places, and noise that opposite shears share."""

import numpy as np
import pytest

from raydeblend.fits import njy_per_count
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.rings import PAIRS, VIEWS, RingPlan, draw_rings, write_view
from raydeblend.simulate.tiles import ZERO_POINT, tile_path
from raydeblend.survey import get_survey

fits = pytest.importorskip("astropy.io.fits")
HSC = get_survey("HSC")


def rings(plan, n=4, bands=("i",)):
    return draw_rings(HSC, bands, plan, n, 5, find_stamps(None, "test"))


def test_pairs_are_turned_and_sheared_as_a_whole():
    drawn = rings(PAIRS)
    z = drawn.offsets @ [1, 1j]
    for view in range(VIEWS):
        angle = np.deg2rad(45 * (view // 4))
        shear = 0.02 * (1, -1, 1j, -1j)[view % 4]
        turned = z * np.exp(1j * angle)
        # An area-preserving shear, in complex numbers (Bernstein & Jarvis 2002, AJ 123, 583).
        expected = (turned + shear * turned.conj()) / np.sqrt(1 - abs(shear) ** 2)
        place = (drawn.xy(view) - drawn.places[:, None]) @ [1, 1j]
        np.testing.assert_allclose(place, expected, atol=1e-9)
        axis = np.angle(turned[:, 1] - turned[:, 0])
        np.testing.assert_allclose(np.exp(1j * drawn.axis(view)), np.exp(1j * axis))


def test_every_bin_has_as_many_objects_and_distances_are_in_range():
    drawn = rings(RingPlan(edges=(21, 22, 23), distance=(1.0, 2.0)), n=20)
    first = drawn.galaxies.magnitude[::2, 0]
    assert (np.histogram(first, (21, 22, 23))[0] == 10).all()
    apart = np.hypot(*(drawn.offsets[:, 1] - drawn.offsets[:, 0]).T) * HSC.pixel_scale
    assert 1 <= apart.min() < apart.max() <= 2


def test_opposite_shears_have_the_same_noise_and_other_angles_another(tmp_path):
    drawn = rings(RingPlan(edges=(23.0, 24.0), spacing=40), n=1)
    tiles = []
    for view in (0, 1, 4):
        write_view(drawn, view, 7, str(tmp_path))
        path = tile_path(str(tmp_path), drawn.grid.name(view), "i")
        tiles.append(fits.getdata(path, "IMAGE") * njy_per_count(ZERO_POINT))
    sigma = drawn.survey.band("i").sky_sigma
    edge = np.s_[:6]
    assert tiles[0][edge].std() == pytest.approx(sigma, rel=0.15)
    assert (tiles[0] - tiles[1])[edge].std() < 0.01 * sigma
    assert (tiles[0] - tiles[2])[edge].std() > sigma
    # And the galaxy itself is not the same.
    assert np.abs(tiles[0] - tiles[1]).max() > 0.05 * sigma
