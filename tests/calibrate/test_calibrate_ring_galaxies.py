"""RingGalaxies, against their formula and the light that they should have."""

import galsim
import numpy as np
import pytest

from raydeblend.calibrate.ring_galaxies import RingGalaxies, ring
from raydeblend.simulate.population.draw import draw_smooth


@pytest.mark.parametrize("outer", [1.2, 1.9])
def test_a_ring_is_dark_inside_and_brightest_at_its_crest(outer: float) -> None:
    drawn = ring(1.5, outer, 0.4)
    radii = np.linspace(0, 4, 401)
    brightness = np.array([drawn.xValue(radius, 0) for radius in radii])
    assert drawn.flux == pytest.approx(0.4)
    assert brightness[0] == pytest.approx(0, abs=1e-12)
    assert brightness.min() > -1e-12
    assert radii[brightness.argmax()] == pytest.approx(1.5, abs=0.011)


def test_a_ring_galaxy_has_the_flux_and_shear_of_its_galaxy() -> None:
    rng = np.random.default_rng(2)
    smooth = draw_smooth(np.array([20.0, 21.0]), ("g", "i"), rng, np.ones(2))
    smooth.r50[:] = 0.8
    smooth.g[:] = [[0.3, 0.0], [0.0, 0.0]]
    rings = RingGalaxies.draw(smooth, rng)
    assert len(rings) == 2
    assert rings.bands == ("g", "i")
    for row in range(2):
        image = galsim.Convolve(rings.profile(row, 0), galsim.Gaussian(sigma=0.1)).drawImage(
            nx=241, ny=241, scale=0.05
        )
        assert image.array.sum() == pytest.approx(1, abs=0.02)
        y, x = np.mgrid[-120:121, -120:121]
        ratio = (image.array * x**2).sum() / (image.array * y**2).sum()
        # A shear g stretches x by (1 + g) / (1 - g) over y, squared in moments.
        assert ratio == pytest.approx((1.3 / 0.7) ** 2 if row == 0 else 1, rel=0.03)
