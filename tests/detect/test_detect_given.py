"""Footprints of given positions: each has one, seen or not, and what is not listed is said."""

import numpy as np
from sky_tiles import add_stars, make_tile, noise, point_source_error

from raydeblend.detect.footprints import DetectConfig, find_blends
from raydeblend.detect.given import find_given
from raydeblend.flags import Flag

CONFIG = DetectConfig()
SNR = 60.0


def sky(xy, snr=SNR):
    flux = np.full(len(xy), snr * point_source_error())
    return make_tile(add_stars(noise((200, 200), 3), np.array(xy), flux))


def given(tile, xy):
    blends = find_given(tile, np.array(xy, float), CONFIG)
    return blends, [sorted(map(tuple, np.round(b.on_tile(b.xy), 3).tolist())) for b in blends]


def test_every_position_is_in_one_footprint_whether_anything_shows_or_not():
    stars = [(50.0, 50.0), (120.3, 80.2)]
    empty = [(160.0, 150.0), (20.0, 180.0)]
    blends, xy = given(sky(stars), stars + empty)
    # The brighter sky first; the two empty places in either order.
    assert sorted(xy) == sorted([[p] for p in stars + empty])
    for blend in blends:
        x, y = np.floor(blend.xy[0] + 0.5).astype(int)
        assert blend.footprint[y, x]
        assert not blend.flags & Flag.UNLISTED_PEAK
    ids = [b.parent_id for b in blends]
    assert len(set(ids)) == 4


def test_a_position_on_the_skirt_of_a_star_is_fitted_with_it():
    _, xy = given(sky([(100.0, 100.0)]), [(100.0, 100.0), (104.0, 100.0)])
    assert xy == [[(100.0, 100.0), (104.0, 100.0)]]


def test_a_star_that_is_not_listed_is_taken_out_and_told_where_it_matters():
    stars = [(60.0, 60.0), (67.0, 60.0), (150.0, 150.0)]
    tile = sky(stars)
    blends, xy = given(tile, [(60.0, 60.0), (140.0, 140.0)])
    # The neighbor in the same footprint has no position; the lone star is another's footprint.
    assert xy == [[(60.0, 60.0)], [(140.0, 140.0)]]
    assert [bool(b.flags & Flag.UNLISTED_PEAK) for b in blends] == [True, False]
    x, y = (np.array([150, 150]) - [blends[1].box.x0, blends[1].box.y0]).tolist()
    assert blends[1].unusable[:, y, x].all()
    assert len(find_blends(tile, CONFIG)) == 2


def test_no_positions_no_footprints():
    assert find_given(sky([(60.0, 60.0)]), np.empty((0, 2)), CONFIG) == []
