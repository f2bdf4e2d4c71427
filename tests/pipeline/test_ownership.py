from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from headers import SCALE, make_header

from raydeblend.pipeline.ownership import center, is_primary, neighbors_of, to_sky


def test_only_near_tiles_are_neighbors():
    headers = [
        make_header("a"),
        make_header("b", origin=(250, 0)),
        make_header("c", origin=(9000, 0)),
    ]
    assert [others.tolist() for others in neighbors_of(headers)] == [[1], [0], []]
    assert neighbors_of([]) == []


def test_neighbors_are_found_in_frames_other_than_icrs():
    headers = [
        make_header("a"),
        make_header("b", origin=(250, 0)),
        make_header("c", origin=(9e3, 0)),
    ]
    # B1950 is 0.6 degrees off; a galactic tile at the place of "b", another far away.
    old = [replace(h, wcs=of_1950(h)) for h in headers[:2]]
    assert [others.tolist() for others in neighbors_of(old)] == [[1], [0]]
    place = center(headers[1]).galactic
    galactic = make_header("g", crval=(place.l.deg, place.b.deg))
    wcs = galactic.wcs.replace("RA---TAN", "GLON-TAN").replace("DEC--TAN", "GLAT-TAN")
    galactic = replace(galactic, wcs=wcs.replace("RADESYS = 'ICRS'", "COMMENT   ICRS "))
    found = neighbors_of([*headers, galactic])
    assert found[3].tolist() == [0, 1]


def of_1950(header):
    wcs = WCS(fits.Header.fromstring(header.wcs))
    wcs.wcs.radesys, wcs.wcs.equinox = "FK4", 1950.0
    return wcs.to_header().tostring(endcard=False, padding=False)


def owners(headers, grid):
    """How many of the tiles own each position of the sky grid that they contain."""
    times = np.zeros(len(grid), dtype=int)
    for header, others in zip(headers, neighbors_of(headers), strict=True):
        wcs = WCS(header.wcs)
        x0, y0 = 1 - wcs.wcs.crpix
        xy = grid - (x0, y0)
        rows, columns = header.shape
        inside = ((xy >= 0) & (xy < (columns, rows))).all(axis=1)
        near = [headers[i] for i in others]
        times[inside] += is_primary(header, near, xy[inside])
    return times


def test_each_position_is_owned_by_one_tile():
    # Four tiles with an overlap of 60 pixels; exact ties lie along both middle lines.
    corners = [(0, 0), (240, 0), (0, 240), (240, 240)]
    headers = [make_header(f"t{i}", origin=origin) for i, origin in enumerate(corners)]
    grid = np.stack(np.meshgrid(np.arange(0, 540, 3), np.arange(0, 540, 3)), -1).reshape(-1, 2)
    assert (owners(headers, grid.astype(float)) == 1).all()


def test_the_nearest_center_owns_and_the_name_breaks_a_tie():
    left, right = make_header("b"), make_header("a", shape=(300, 301), origin=(200, 0))
    # Centers are at x = 149.5 and 350: the tie is at 249.75.
    xy = np.array([[201.0, 150], [249, 150], [250, 150], [299, 150]])
    assert is_primary(left, (right,), xy).tolist() == [True, True, False, False]
    same = make_header("c")
    assert is_primary(left, (same,), xy).all()
    assert not is_primary(same, (left,), xy).any()


def test_positions_outside_all_neighbors_are_primary():
    header, far = make_header("a"), make_header("b", origin=(280, 280))
    assert is_primary(header, (far,), np.array([[10.0, 10], [299, 10]])).all()
    assert is_primary(header, (far,), np.empty((0, 2))).shape == (0,)


def test_sky_positions_follow_the_wcs():
    sky = to_sky(make_header("a"), np.array([[0.0, 0], [0, 100]]))
    assert sky.ra.deg[0] == pytest.approx(150)
    assert sky.dec.deg[1] == pytest.approx(2 + 100 * SCALE / 3600, abs=1e-9)
