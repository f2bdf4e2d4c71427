import numpy as np
import pytest
from astropy.wcs import WCS

from raydeblend.pipeline.plan import is_primary, overlapping, plan_cells, plan_tasks, to_sky
from raydeblend.tile import TileHeader

SCALE = 0.168


def make_header(name, shape=(300, 300), origin=(0, 0)):
    """A tile whose first pixel is pixel `origin` (x, y) of one sky grid at (150, 2)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [1 - origin[0], 1 - origin[1]]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    return TileHeader(name, ("i",), (None,), shape, wcs.to_header_string(), SCALE)


@pytest.mark.parametrize(("shape", "size"), [((300, 300), 128), ((257, 100), 64), ((64, 65), 64)])
def test_every_pixel_is_in_one_inner_region(shape, size):
    times = np.zeros(shape, dtype=int)
    for cell in plan_cells([make_header("a", shape)], size, border=20):
        times[cell.inner.slices] += 1
        assert max(cell.inner.shape) <= size
    assert (times == 1).all()


def test_outer_region_adds_the_border_inside_the_tile():
    first, *_, last = plan_cells([make_header("a")], 100, border=20)
    assert (first.inner.y0, first.inner.x0, first.inner.y1, first.inner.x1) == (0, 0, 100, 100)
    assert (first.outer.y0, first.outer.x0, first.outer.y1, first.outer.x1) == (0, 0, 120, 120)
    assert (last.outer.y0, last.outer.x1) == (180, 300)


def test_names_are_unique_and_depend_on_the_inner_region_alone():
    names = [cell.name for cell in plan_cells([make_header("a")], 100, border=20)]
    assert len(set(names)) == 9
    assert names == [cell.name for cell in plan_cells([make_header("b")], 100, border=0)]


def test_only_near_tiles_are_neighbours():
    headers = [
        make_header("a"),
        make_header("b", origin=(250, 0)),
        make_header("c", origin=(9000, 0)),
    ]
    found = {name: [h.name for h in others] for name, others in overlapping(headers).items()}
    assert found == {"a": ["b"], "b": ["a"], "c": []}
    assert [t.neighbours for t in plan_tasks(headers[2:], 300, 0)] == [()]


def owners(headers, grid):
    """How many of the tiles own each position of the sky grid that they contain."""
    times = np.zeros(len(grid), dtype=int)
    for header in headers:
        wcs = WCS(header.wcs)
        x0, y0 = 1 - wcs.wcs.crpix
        xy = grid - (x0, y0)
        rows, columns = header.shape
        inside = ((xy >= 0) & (xy < (columns, rows))).all(axis=1)
        others = overlapping(headers)[header.name]
        times[inside] += is_primary(header, others, xy[inside])
    return times


def test_each_position_is_owned_by_one_tile():
    # Four tiles with an overlap of 60 pixels; exact ties lie along both middle lines.
    corners = [(0, 0), (240, 0), (0, 240), (240, 240)]
    headers = [make_header(f"t{i}", origin=origin) for i, origin in enumerate(corners)]
    grid = np.stack(np.meshgrid(np.arange(0, 540, 3), np.arange(0, 540, 3)), -1).reshape(-1, 2)
    assert (owners(headers, grid.astype(float)) == 1).all()


def test_the_nearest_centre_owns_and_the_name_breaks_a_tie():
    left, right = make_header("b"), make_header("a", shape=(300, 301), origin=(200, 0))
    # Centres are at x = 149.5 and 350: the tie is at 249.75.
    xy = np.array([[201.0, 150], [249, 150], [250, 150], [299, 150]])
    assert is_primary(left, (right,), xy).tolist() == [True, True, False, False]
    same = make_header("c")
    assert is_primary(left, (same,), xy).all()
    assert not is_primary(same, (left,), xy).any()


def test_positions_outside_all_neighbours_are_primary():
    header, far = make_header("a"), make_header("b", origin=(280, 280))
    assert is_primary(header, (far,), np.array([[10.0, 10], [299, 10]])).all()
    assert is_primary(header, (far,), np.empty((0, 2))).shape == (0,)


def test_sky_positions_follow_the_wcs():
    sky = to_sky(make_header("a"), np.array([[0.0, 0], [0, 100]]))
    assert sky.ra.deg[0] == pytest.approx(150)
    assert sky.dec.deg[1] == pytest.approx(2 + 100 * SCALE / 3600, abs=1e-9)
