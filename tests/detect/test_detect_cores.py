"""Cores of saturated stars: one peak each, within their footprint."""

from dataclasses import replace

import numpy as np
import pytest
from sky_tiles import add_stars, make_tile, noise, point_source_error

from raydeblend.detect.cores import closed_cores, one_peak_a_core
from raydeblend.detect.footprints import DetectConfig, find_blends

MIDDLE, RADIUS = (60.0, 61.0), 7


def positions(blends):
    """Peaks ``(n, 2)`` in pixels of the tile."""
    return np.concatenate([b.xy + np.array([b.box.x0, b.box.y0]) for b in blends])


def saturated_star(trail: bool):
    """A star whose core is masked in all bands, with a bleed trail or without, and a neighbor."""
    flux = np.array([1e5, 60]) * point_source_error()
    image = add_stars(noise((120, 120)), np.array([MIDDLE, (86.0, 61.0)]), flux)
    y, x = np.indices(image.shape[1:])
    core = np.hypot(x - MIDDLE[0], y - MIDDLE[1]) < RADIUS
    if trail:
        core |= abs(x - MIDDLE[0]) < 2
    return replace(
        make_tile(image), unusable=np.broadcast_to(core, image.shape).copy(), saturated=core
    )


@pytest.mark.parametrize("trail", [False, True])
def test_a_star_has_one_peak_in_the_middle_of_its_core(trail):
    blends = find_blends(saturated_star(trail), DetectConfig())
    xy = positions(blends)
    own = np.hypot(*(xy - MIDDLE).T) < 2 * RADIUS
    assert own.sum() == 1
    np.testing.assert_allclose(xy[own][0], MIDDLE, atol=1)
    assert np.hypot(*(xy - (86.0, 61.0)).T).min() < 1


def test_the_core_belongs_to_the_footprint():
    _, blend = find_blends(saturated_star(trail=False), DetectConfig())
    x, y = np.rint(np.subtract(MIDDLE, (blend.box.x0, blend.box.y0))).astype(int)
    assert blend.footprint[y, x]


def test_without_one_peak_a_core_there_are_several_or_none_in_it():
    """What the two functions are for: the rim alone misleads."""
    blends = find_blends(
        replace(saturated_star(True), saturated=np.zeros((120, 120), bool)), DetectConfig()
    )
    xy = positions(blends)
    assert (np.hypot(*(xy - MIDDLE).T) < 2 * RADIUS).sum() != 1


def test_a_hole_that_is_open_or_not_saturated_is_no_core():
    detected = np.zeros((20, 20), bool)
    detected[5:15, 5:15] = True
    detected[8:12, 8:12] = False
    blind = ~detected
    assert closed_cores(detected, blind).sum() == 16
    assert not closed_cores(detected, np.zeros_like(blind)).any()
    detected[8:12, 12:15] = False
    assert not closed_cores(detected, blind).any()


def test_peaks_far_from_every_core_stay_as_they_are():
    cores = np.zeros((30, 30), np.int32)
    cores[10:13, 10:13] = 1
    peaks = np.array([[9, 11], [25, 25], [14, 12]])
    xy = peaks[:, ::-1] + 0.25
    pixels, positions = one_peak_a_core(cores, 3, peaks, xy)
    assert pixels.tolist() == [[11, 11], [25, 25]]
    assert positions.tolist() == [[11, 11], [25.25, 25.25]]
