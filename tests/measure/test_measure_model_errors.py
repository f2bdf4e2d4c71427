"""What the models of a deblender may get wrong, in the errors of fluxes."""

import galsim
import numpy as np
import pytest
from galaxy_stamps import FLUX, SCALE, draw_models, make_blend, measure_blend

from raydeblend.config import DEBLENDERS
from raydeblend.measure.blendedness import neighbor_flux
from raydeblend.measure.config import DEFAULT_CONFIG, ErrorParts
from raydeblend.measure.measure import error_parts

GALAXY = galsim.Exponential(half_light_radius=0.4)
SIZE, XY = 64, np.array([[24.0, 31.0], [38.0, 33.0]])


def variances(psf, sources: int, deblender: str | None) -> tuple[np.ndarray, ...]:
    """Return variances and fluxes of bright galaxies, and the neighbors' flux under each."""
    flux = 100 * np.array([FLUX, 0.3 * FLUX])[:sources]
    models = draw_models([GALAXY] * sources, psf, XY[:sources], flux, SIZE)
    blend = make_blend(models.sum(0), 1.0, XY[:sources])
    names = None if deblender is None else [deblender]
    out = measure_blend(
        blend, models, XY[:sources], psf, SCALE, "mixture", model="bdf", deblenders=names
    )
    np.testing.assert_allclose(np.diagonal(out.flux_cov, axis1=1, axis2=2), out.flux_err**2)
    return out.flux_err**2, out.flux, neighbor_flux(models, np.ones_like(models[0]))


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("deblender", ["rdn", "sep"])
def test_errors_hold_parts_of_the_own_and_of_the_neighbors_flux(psf, sources, deblender):
    parts = error_parts("mixture", "bdf", True, deblender)
    usual = error_parts("mixture", "bdf", True)
    assert usual == ErrorParts(DEFAULT_CONFIG.joint_bdf_noise)
    with_own, flux, under = variances(psf, sources, deblender)
    without, _, _ = variances(psf, sources, None)
    own = parts.own if sources == 1 else parts.own_in_blend
    expected = (parts.neighbors**2 - usual.neighbors**2) * under**2 + (own * flux) ** 2
    np.testing.assert_allclose(with_own - without, expected, rtol=1e-6)


def test_they_are_known_for_the_photometry_they_were_measured_with():
    for own in DEFAULT_CONFIG.by_deblender:
        assert set(own.deblenders) <= set(DEBLENDERS)
        for name in own.deblenders:
            assert error_parts("mixture", "bdf", True, name) == own.parts
            assert error_parts("ngmix", "exp", True, name).own == 0
            assert error_parts("mixture", "template", True, name).own == 0
