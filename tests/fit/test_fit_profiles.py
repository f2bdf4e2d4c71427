import galsim
import numpy as np
import pytest

from raydeblend.errors import ConfigError
from raydeblend.fit.profiles import MODELS, profile
from raydeblend.fit.sersic import light_within


def surface_brightness(name: str, radius: np.ndarray) -> np.ndarray:
    """Of the mixture, unit flux, in half-light radii."""
    shape = profile(name)
    variance = shape.fractions * shape.t_per_radius2 / 2
    gaussians = np.exp(-0.5 * radius[:, None] ** 2 / variance) / (2 * np.pi * variance)
    return gaussians @ shape.weights


@pytest.mark.parametrize(
    ("name", "truth", "inner", "outer", "tolerance"),
    [
        ("exp", galsim.Exponential(half_light_radius=1), 0.05, 3.0, 0.007),
        ("dev", galsim.DeVaucouleurs(half_light_radius=1), 0.1, 8.0, 0.011),
        ("gauss", galsim.Gaussian(half_light_radius=1), 0.0, 4.0, 1e-6),
    ],
)
def test_mixture_follows_galsims_profile(name, truth, inner, outer, tolerance):
    radius = np.linspace(inner, outer, 60)
    exact = np.array([truth.xValue(r, 0) for r in radius])
    assert np.abs(surface_brightness(name, radius) / exact - 1).max() < tolerance


@pytest.mark.parametrize(("name", "index", "off"), [("exp", 1, 6e-4), ("dev", 4, 2.5e-3)])
def test_the_light_within_any_radius_is_that_of_the_profile(name, index, off):
    shape, radius = profile(name), np.geomspace(0.02, 30, 97)
    variance = shape.fractions * shape.t_per_radius2 / 2
    found = (1 - np.exp(-0.5 * radius[:, None] ** 2 / variance)) @ shape.weights
    assert np.abs(found - light_within(index, radius)).max() < off


@pytest.mark.parametrize("name", MODELS)
def test_mixture_has_unit_flux(name):
    assert profile(name).weights.sum() == pytest.approx(1, abs=1e-12)


def test_size_of_the_exponential_is_six_scale_lengths_squared():
    scale_length = galsim.Exponential(half_light_radius=1).scale_radius
    assert profile("exp").t_per_radius2 == pytest.approx(6 * scale_length**2, rel=1e-5)
    # The mixture itself holds nearly all of that second moment.
    assert profile("exp").weights @ profile("exp").fractions == pytest.approx(0.995, abs=0.001)


def test_unknown_model_names_the_known():
    with pytest.raises(ConfigError, match="exp, dev, gauss, bdf"):
        profile("sersic")
