import galsim
import numpy as np
import pytest

from raydeblend.errors import ConfigError
from raydeblend.fits import find_tiles, read_tile
from raydeblend.simulate.psf_variation import draw_variation
from raydeblend.simulate.scene import Grid
from raydeblend.simulate.tiles import simulate_tiles
from raydeblend.survey import draw_psf, get_survey, psf_profile
from raydeblend.tile import Box

HSC = get_survey("HSC")
GRID = Grid(2, 120, 0, HSC.pixel_scale)
MOFFAT = galsim.Moffat(beta=3.5, fwhm=0.7)


def moments(psf):
    found = draw_psf(psf, 0.05, 201)
    shape = galsim.hsm.FindAdaptiveMom(galsim.Image(found))
    return shape.moments_sigma, shape.observed_shape.g1, shape.observed_shape.g2


def variation(kind, seed=1):
    return draw_variation(kind, 3, GRID.extent, GRID.n_tiles, 2, seed)


def test_a_smooth_psf_changes_by_per_cents_and_without_jumps():
    smooth = variation("smooth")
    corner, beside, far = (moments(smooth.smooth(MOFFAT, 0, x, 5.0)) for x in (2, 3, 230))
    assert beside == pytest.approx(corner, abs=2e-3, rel=2e-3)
    assert np.abs(np.subtract(corner, far)).max() > 0.005
    other = moments(smooth.smooth(MOFFAT, 1, 2, 5.0))
    assert np.abs(np.subtract(corner, other)).max() > 0.002


def test_cells_have_a_part_of_their_own_and_cover_the_tile():
    cells = list(variation("cells").in_cells(MOFFAT, 1, GRID.box(1), 0))
    smooth = variation("smooth")
    count = np.zeros(GRID.extent.shape, dtype=int)
    off = []
    for box, psf in cells:
        count[box.slices] += 1
        middle = (box.x0 + box.x1 - 1) / 2, (box.y0 + box.y1 - 1) / 2
        off.append(moments(psf)[0] / moments(smooth.smooth(MOFFAT, 0, *middle))[0] - 1)
    assert (count[GRID.box(1).slices] == 1).all()
    assert count.sum() == 120 * 120
    assert 0.01 < np.std(off) < 0.06


def test_the_same_seed_gives_the_same_psfs_and_none_gives_none():
    assert variation("none") is None
    one, same, other = (variation("cells", seed).jumps for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_unknown_kinds_and_too_many_cells_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="known: none, smooth, cells"):
        variation("wild")
    with pytest.raises(ConfigError, match="from 1 to 3 cells"):
        simulate_tiles(str(tmp_path), "HSC", ("i",), 1, 100, psf_variation="cells", psf_cells=4)


def test_tiles_carry_the_psf_of_each_cell(tmp_path):
    simulate_tiles(str(tmp_path), "HSC", ("i",), 1, 100, seed=2, psf_variation="cells", psf_cells=2)
    header = find_tiles(str(tmp_path), ("i",), "{tile}_{band}.fits", "{tile}_{band}_psf.fits")[0][0]
    psf = read_tile(header, header.box, HSC).psf
    expected = draw_variation("cells", 2, Box(0, 0, 100, 100), 1, 1, 2)
    base = psf_profile(HSC, "i")
    for box, own in expected.in_cells(base, 0, header.box, 0):
        for x, y in ((box.x0, box.y0), (box.x1 - 1, box.y1 - 1)):
            np.testing.assert_allclose(
                psf.at(x, y)[0], draw_psf(own, HSC.pixel_scale), rtol=1e-5, atol=1e-8
            )
    assert psf.jumps([[49, 10], [50, 10]])
    assert not psf.missing([[10, 10], [90, 90]]).any()
