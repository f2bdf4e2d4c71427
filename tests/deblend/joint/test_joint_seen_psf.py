"""Sources of one blend behind PSFs of their own: an edge of cells runs between them."""

from dataclasses import replace

import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint import batching, compiled
from raydeblend.deblend.joint.blend_fit import FitRequest
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.psf import TilePsf, by_cell, everywhere
from raydeblend.survey import draw_psf
from raydeblend.tile import Box

SCALE, SIZE, SIGMA = 0.2, 48, 1.0
SHARP, WIDE = galsim.Moffat(beta=3.5, fwhm=0.6), galsim.Moffat(beta=3.5, fwhm=0.8).shear(g1=0.05)
STAMPS = [draw_psf(each, SCALE) for each in (SHARP, WIDE)]
XY = np.array([[19.2, 24.1], [28.9, 23.6]])
FLUX = np.array([4000.0, 3000.0])
OFFSET = 100
"""The stamp's first pixel in the tile."""


def star(psf, xy, flux):
    middle = (SIZE - 1) / 2
    drawn = psf.withFlux(flux).drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=xy - middle)
    return drawn.array.astype(float)


@pytest.fixture(scope="module")
def blend():
    """Two stars in three bands; between them the PSF changes in two of these."""
    rng = np.random.default_rng(2)
    jump = star(SHARP, XY[0], FLUX[0]) + star(WIDE, XY[1], FLUX[1])
    same = star(SHARP, XY[0], FLUX[0]) + star(SHARP, XY[1], FLUX[1])
    return np.stack([jump, jump, same]) + rng.normal(0, SIGMA, (3, SIZE, SIZE))


@pytest.fixture(scope="module")
def psf():
    edges = [0, 400], [0, OFFSET + 24, 400]
    jump = by_cell(STAMPS, [[0, 1]], *edges)
    return TilePsf((jump, jump, everywhere(STAMPS[0])))


def fitted(blend, psf):
    variance = np.full_like(blend, SIGMA**2)
    found = JointDeblender()(blend[None], variance[None], None, psf, pixel_scale=SCALE)
    assert found.n_sources[0] == 2
    order = found.xy[0, :2, 0].argsort()
    of_sources = {name: v for name, v in found.extra.items() if v.shape[1:2] == (2,)}
    return {name: values[0][order] for name, values in of_sources.items()}


def test_each_source_is_fitted_with_the_psf_of_its_place(blend, psf):
    seen = psf.seen_in(Box(OFFSET, OFFSET, OFFSET + SIZE, OFFSET + SIZE))
    own = fitted(blend, [seen])
    assert np.abs((own["flux"] - FLUX[:, None]) / own["flux_err"]).max() < 3
    assert (own["T"] < 2 * own["T_err"]).all()
    first = fitted(blend, np.stack([STAMPS[0]] * 3))
    assert first["T"][1] > 5 * first["T_err"][1]
    assert own["chi2"][1] < first["chi2"][1]


def test_one_psf_by_place_is_that_psf(blend):
    by_place = TilePsf((everywhere(STAMPS[0]),) * 3)
    one, other = fitted(blend, [by_place]), fitted(blend, np.stack([STAMPS[0]] * 3))
    np.testing.assert_allclose(one["flux"], other["flux"], rtol=1e-6)


def test_many_blends_together_see_the_same_psfs(blend, psf):
    """The path of GPUs, run here, against the compiled one: fits and images."""
    deblender = JointDeblender()
    seen = psf.seen_in(Box(OFFSET, OFFSET, OFFSET + SIZE, OFFSET + SIZE))
    (stamp,), _ = deblender.make_stamps(blend[None], np.ones_like(blend)[None], None, [seen], SCALE)
    request = FitRequest(stamp, XY, np.zeros(2, dtype=bool))
    np.testing.assert_array_equal(request.place, [[0, 1], [0, 1], [0, 0]])
    ((_, together),) = batching.fit_batches([request], [0], deblender.settings)
    alone = compiled.fit(request, deblender.priors)
    np.testing.assert_array_equal(together.place, request.place)
    np.testing.assert_allclose(together.total, alone.total, rtol=0.003)
    images = batching.render(stamp, alone, deblender.device)
    np.testing.assert_allclose(images, compiled.render(stamp, alone), atol=2e-4 * images.max())
    shared = replace(alone, place=np.zeros_like(alone.place))
    assert np.abs(images - compiled.render(stamp, shared))[1, 0].max() > 0.05 * images[1, 0].max()
