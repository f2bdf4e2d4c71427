import numpy as np
import pytest

from raydeblend.flags import Flag
from raydeblend.psf import NONE, TilePsf, by_cell, by_position, everywhere
from raydeblend.tile import Box


def stamp(width: float, side: int = 15) -> np.ndarray:
    y, x = np.indices((side, side)) - side // 2
    light = np.exp(-(x**2 + y**2) / (2 * width**2))
    return (light / light.sum()).astype(np.float32)


ROUND, WIDE, WIDEST = stamp(1.5), stamp(1.8), stamp(2.1)


@pytest.fixture
def grid():
    """2 x 3 cells of 10 rows and 20 columns, the last of the second row without PSF."""
    number = [[0, 1, 0], [2, 2, NONE]]
    return by_cell([ROUND, WIDE, WIDEST], number, [0, 10, 20], [0, 20, 40, 60])


def test_a_constant_psf_is_the_same_everywhere():
    psf = TilePsf((everywhere(ROUND, Flag.PSF_NOMINAL), everywhere(WIDE)))
    assert psf.is_constant
    assert set(psf.keys([[-5, 3], [1e4, 2], [7.5, 90]])) == {(0, 0)}
    one, two = psf.at(3, 4)
    assert one is ROUND
    assert two is WIDE
    assert psf.flags([[0, 0]]).tolist() == [Flag.PSF_NOMINAL]
    assert not psf.missing([[0, 0]]).any()
    assert not psf.jumps([[0, 0], [1e4, 1e4]])


def test_a_position_has_the_stamp_of_its_cell(grid):
    psf = TilePsf((grid,))
    places = {(0, 0): ROUND, (19.4, 9.4): ROUND, (19.5, 9.4): WIDE, (19.4, 9.5): WIDEST,
              (45, 3): ROUND, (21, 12): WIDEST, (-3, -3): ROUND, (100, 3): ROUND}  # fmt: skip
    for place, expected in places.items():
        assert psf.at(*place)[0] is expected, place
    assert not psf.is_constant


def test_a_cell_without_psf_has_that_of_the_nearest_cell_and_says_so(grid):
    psf = TilePsf((everywhere(WIDE), grid))
    inside, outside = [50, 15], [30, 15]
    assert psf.at(*inside)[1] is ROUND  # 10 rows off; the cell beside it is 20 columns away
    assert psf.missing([inside, outside]).tolist() == [[False, True], [False, False]]
    assert psf.flags([inside, outside]).tolist() == [Flag.PSF_NOMINAL, 0]


def test_flags_of_stamps_hold_where_the_stamps_do():
    band = by_cell([ROUND, WIDE], [[0, 1]], [0, 10], [0, 10, 20], [0, Flag.PSF_TRUNCATED])
    assert TilePsf((band,)).flags([[5, 5], [15, 5]]).tolist() == [0, Flag.PSF_TRUNCATED]


def test_an_edge_counts_where_the_stamps_beside_it_differ(grid):
    psf = TilePsf((everywhere(WIDE), grid))
    assert psf.jumps([[19, 5], [20, 5]])
    assert not psf.jumps([[18, 5], [19, 5]])
    assert not psf.jumps([[19, 15], [20, 15]])  # two cells of one stamp
    same = by_cell([ROUND, ROUND.copy()], [[0, 1]], [0, 10], [0, 10, 20])
    assert len(same.stamps) == 1
    assert not TilePsf((same,)).jumps([[5, 5], [15, 5]])


def test_the_nearest_of_positions_holds():
    band = by_position([ROUND, WIDE], [[10, 10], [30, 10]])
    psf = TilePsf((band,))
    assert psf.at(19, 0)[0] is ROUND
    assert psf.at(21, 50)[0] is WIDE
    assert not psf.jumps([[0, 0], [40, 0]])
    assert not psf.flags([[0, 0]]).any()


@pytest.mark.parametrize("box", [Box(0, 0, 5, 5), Box(3, 15, 12, 22), Box(15, 40, 30, 70)])
def test_the_part_for_a_box_has_its_places_alone(grid, box):
    rng = np.random.default_rng(1)
    spread = by_position([ROUND, WIDE, WIDEST] * 20, rng.uniform(0, 60, (60, 2)))
    psf = TilePsf((grid, spread))
    part = psf.within(box)
    y, x = np.mgrid[box.y0 : box.y1, box.x0 : box.x1].reshape(2, -1)
    for place in zip(x, y, strict=True):
        for ours, whole in zip(part.at(*place), psf.at(*place), strict=True):
            assert ours is whole
    xy = np.column_stack([x, y])
    assert (part.missing(xy) == psf.missing(xy)).all()
    used = {id(s) for key in psf.keys(xy) for s in psf.stamps(key)}
    assert {id(s) for s in part.bands[0].stamps} <= used
    assert len(part.bands[1].stamps) < 60
    assert part.bands[0].height == grid.height


def test_the_height_is_that_of_all_stamps(grid):
    assert grid.height == pytest.approx(np.mean([s.max() for s in (ROUND, WIDE, WIDEST)]))


def test_a_grid_without_any_psf_is_refused():
    with pytest.raises(ValueError, match="needs a cell"):
        by_cell([ROUND], [[NONE]], [0, 10], [0, 10])
