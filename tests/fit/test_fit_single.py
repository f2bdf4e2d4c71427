"""The mixture fitter against GalSim's truth, plain sums and analytic errors."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from galaxy_stamps import SCALE, draw_models, make_blend
from plain_mixture import chi2, distance_from_minimum, draw, fluxes
from scipy.optimize import brentq
from scipy.special import gammainc

from raydeblend.fit import profile_model
from raydeblend.fit import single as mixture
from raydeblend.fit.compiled.galaxy import Family
from raydeblend.fit.compiled.stamp_fit import (
    Cutouts,
    Solutions,
    Stop,
    fit_summed,
    fit_windows,
)
from raydeblend.fit.profile_model import make_family, size_class
from raydeblend.fit.profiles import BULGE_RADIUS, MODELS, profile
from raydeblend.fit.psf import PsfMixture, fit_psf
from raydeblend.fit.result import errors_of
from raydeblend.fit.single_priors import DEFAULT_PRIORS
from raydeblend.fit.stamps import cut_stamps
from raydeblend.flags import Flag
from raydeblend.measure.measure import measure_blends

RADIUS, SHEAR = 0.4, (0.2, -0.1)


def galaxy() -> galsim.GSObject:
    return galsim.Exponential(half_light_radius=RADIUS).shear(g1=SHEAR[0], g2=SHEAR[1])


def true_size() -> float:
    """<x²> + <y²> of the sheared exponential: 6 h² (1 + g²) / (1 − g²), area being kept."""
    g2 = SHEAR[0] ** 2 + SHEAR[1] ** 2
    return 6 * galsim.Exponential(half_light_radius=RADIUS).scale_radius ** 2 * (1 + g2) / (1 - g2)


def measure(truth):
    results = measure_blends(truth.blends, truth.models, truth.xy, truth.psf, SCALE, "mixture")
    names = (
        "flux",
        "flux_err",
        "T",
        "T_err",
        "g1",
        "g1_err",
        "g2",
        "g2_err",
        "chi2",
        "snr",
        "flags",
    )
    return {name: np.concatenate([getattr(r, name) for r in results]) for name in names}


def test_bright_exponentials_are_recovered(galaxies):
    out = measure(galaxies(galaxy(), n=8, snr=2000))
    np.testing.assert_allclose(
        (out["flux"] / galaxies(galaxy(), 1, 10).flux).mean(0), 1, atol=0.003
    )
    assert out["T"].mean() == pytest.approx(true_size(), rel=0.01)
    assert out["g1"].mean() == pytest.approx(SHEAR[0], abs=0.003)
    assert out["g2"].mean() == pytest.approx(SHEAR[1], abs=0.003)
    assert out["snr"].mean() == pytest.approx(2000, rel=0.01)
    assert not out["flags"].any()


def test_pulls_have_unit_variance(galaxies):
    truth = galaxies(galaxy(), n=150, snr=40, seed=1)
    out = measure(truth)
    pulls = (out["flux"] - truth.flux) / out["flux_err"]
    assert np.abs(pulls.mean(0)).max() < 0.3
    assert np.all((pulls.std(0) > 0.85) & (pulls.std(0) < 1.15))
    assert out["chi2"].mean() == pytest.approx(1, abs=0.01)
    for name, value in (("g1", SHEAR[0]), ("g2", SHEAR[1]), ("T", true_size())):
        assert 0.8 < np.std((out[name] - value) / out[name + "_err"]) < 1.2
    assert not (out["flags"] & Flag.FIT_NOT_CONVERGED).any()


def test_flux_error_of_a_point_source_is_that_of_the_matched_filter(psf):
    # Position, size and shape fixed by narrow priors, σ_F = σ / (Σ psf²)^½ in every band.
    rng = np.random.default_rng(3)
    sigma, size = 2.0, 49
    stamp = [np.pad(p, (size - p.shape[0]) // 2) for p in psf]
    image = np.stack([500 * s for s in stamp]) + rng.normal(0, sigma, (3, size, size))
    xy = np.full((1, 2), (size - 1) / 2)
    cut = cut_stamps(make_blend(image, sigma, xy), np.zeros((1, 3, size, size)), xy)
    point = mixture.Priors(center=1e-4, shape=1e-3, radius=1e-3, log_size=1e-3)
    result, _ = mixture.fit_shapes(cut, tuple(map(fit_psf, psf)), SCALE, priors=point)
    expected = [sigma / np.sqrt((s.astype(float) ** 2).sum()) for s in stamp]
    np.testing.assert_allclose(result.flux_err[0], expected, rtol=0.005)
    assert np.all(np.abs(result.flux[0] - 500) < 4 * result.flux_err[0])


SIDE = 25
THETA = np.array([0.2, -0.1, 0.15, 0.1, -1.2, 0.3])


def noisy(psf, model: str) -> tuple[Family, Cutouts]:
    """A galaxy drawn in float64 with noise, and all its Gaussians."""
    family = make_family(profile(model), tuple(map(fit_psf, psf)), SCALE, DEFAULT_PRIORS)
    theta = THETA[: len(family.mean)]
    image = 300 * draw(family, theta, np.full(2, (SIDE - 1) / 2), SIDE)[None]
    image += np.random.default_rng(5).normal(size=image.shape)
    return family, Cutouts(image, np.ones_like(image), np.zeros((1, 2)))


def solve(family: Family, cutouts: Cutouts, stop: Stop, side: int = SIDE) -> Solutions:
    q = len(family.mean)
    out = mixture._no_solutions(1, cutouts.image.shape[1], q)
    sides, rows = np.array([side]), np.zeros(1, dtype=np.int64)
    fit_windows(cutouts, rows, family, THETA[None, :q].copy(), sides, 9.0, stop, out)
    return out


@pytest.mark.parametrize("model", MODELS)
def test_the_model_is_that_of_plain_sums(psf, model):
    family, cutouts = noisy(psf, model)
    found = solve(family, cutouts, Stop(0.0, 0.0, 0))
    theta = THETA[: len(family.mean)]
    images = draw(family, theta, np.full(2, (SIDE - 1) / 2), SIDE)[None]
    image, weight = cutouts.image[0], cutouts.weight[0]
    np.testing.assert_allclose(found.flux[0], fluxes(images, image, weight)[:, 0], rtol=2e-6)
    np.testing.assert_allclose(found.norm[0], (images[0] ** 2).sum((1, 2)), rtol=2e-6)
    assert found.chi2[0] == pytest.approx(chi2(images, image, weight), rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_a_fit_ends_at_the_minimum_of_plain_sums(psf, model):
    family, cutouts = noisy(psf, model)
    found = solve(family, cutouts, Stop(1e-7, 3e-8, 40))
    center = np.full((1, 2), (SIDE - 1) / 2)
    pixels = cutouts.image[0], cutouts.weight[0]
    far = distance_from_minimum(family, found.theta, errors_of(found.theta_cov), center, *pixels)
    assert found.converged[0]
    assert np.abs(far).max() < 0.01


@pytest.mark.parametrize("model", MODELS)
def test_errors_are_those_of_numeric_derivatives(psf, model):
    family, cutouts = noisy(psf, model)
    found = solve(family, cutouts, Stop(0.0, 0.0, 0))
    theta, flux, center = found.theta[0], found.flux[0], np.full(2, (SIDE - 1) / 2)
    bands, q = len(flux), len(theta)
    columns = []
    for i in range(q):
        step = 1e-5 * np.eye(q)[i]
        up, down = (draw(family, theta + s, center, SIDE) for s in (step, -step))
        columns.append((flux[:, None, None] * (up - down) / 2e-5).reshape(-1))
    for band in range(bands):
        own = np.zeros((bands, SIDE, SIDE))
        own[band] = draw(family, theta, center, SIDE)[band]
        columns.append(own.reshape(-1))
    prior = np.zeros((q + bands, q + bands))
    prior[:q, :q] = np.diag(family.precision)
    g, room = theta[2:4], 1 - (theta[2:4] ** 2).sum()
    prior[2:4, 2:4] += 4 / room * np.eye(2) + 8 / room**2 * np.outer(g, g)
    matrix = np.array(columns) @ np.array(columns).T + prior
    expected = np.sqrt(np.diag(np.linalg.inv(matrix)))
    errors = np.concatenate([errors_of(found.theta_cov)[0], errors_of(found.flux_cov)[0]])
    np.testing.assert_allclose(errors, expected, rtol=1e-4)


def test_shape_convention_is_that_of_galsim(galaxies):
    along_x = galaxies(galsim.Exponential(half_light_radius=0.6).shear(g1=0.4, g2=0), n=1, snr=500)
    diagonal = galaxies(galsim.Exponential(half_light_radius=0.6).shear(g1=0, g2=0.4), n=1, snr=500)
    out = [measure(truth) for truth in (along_x, diagonal)]
    assert [round(float(o[name][0]), 1) for o in out for name in ("g1", "g2")] == [0.4, 0, 0, 0.4]


@pytest.mark.parametrize("model", ["dev", "gauss"])
def test_other_profiles_fit_their_own_galaxies(galaxies, model):
    shapes = {
        "dev": galsim.DeVaucouleurs(half_light_radius=0.4),
        "gauss": galsim.Gaussian(half_light_radius=0.5),
    }
    truth = galaxies(shapes[model], n=3, snr=500, size=64)
    out = measure_blends(
        truth.blends, truth.models, truth.xy, truth.psf, SCALE, "mixture", model=model
    )
    flux = np.mean([m.flux[0] for m in out], axis=0)
    # A tenth of a de Vaucouleurs galaxy's light lies beyond the stamp.
    np.testing.assert_allclose(flux, truth.flux, rtol=0.01 if model == "gauss" else 0.03)


def light_within(r, bulge):
    """Part of the light of disk and bulge within r: Sérsic's curves of growth."""
    disk = gammainc(2, 1.67835 * r / 0.5)
    return (1 - bulge) * disk + bulge * gammainc(8, 7.66925 * (r / (0.5 * BULGE_RADIUS)) ** 0.25)


@pytest.mark.parametrize("bulge", [0.0, 0.3, 1.0])
def test_bulge_and_disk_are_both_counted(galaxies, bulge):
    disk = galsim.Exponential(half_light_radius=0.5)
    center = galsim.DeVaucouleurs(half_light_radius=0.5 * BULGE_RADIUS)
    shape = ((1 - bulge) * disk + bulge * center).shear(g1=0.1, g2=-0.1)
    truth = galaxies(shape, n=4, snr=1000, size=64)
    out = measure_blends(
        truth.blends, truth.models, truth.xy, truth.psf, SCALE, "mixture", model="bdf"
    )
    flux = np.mean([m.flux[0] for m in out], axis=0)
    np.testing.assert_allclose(flux, truth.flux, rtol=0.012)
    # T is that of an exponential with the half-light radius of the whole.
    r50 = brentq(lambda r: light_within(r, bulge) - 0.5, 0.1, 1.0)
    size = 6 * (r50 / 1.67835) ** 2 * (1 + 0.02) / (1 - 0.02)
    assert np.mean([m.T[0] for m in out]) == pytest.approx(size, rel=0.03 if bulge < 1 else 0.3)
    assert np.mean([m.g1[0] for m in out]) == pytest.approx(0.1, abs=0.005)


def test_summed_pixels_give_the_shape_of_the_pixels(psf):
    mixtures = tuple(map(fit_psf, psf))
    theta = np.array([0.2, -0.1, 0.15, 0.1, -0.8])
    shape, side = profile("exp"), 49
    family = make_family(shape, mixtures, SCALE, DEFAULT_PRIORS)
    image = 1e5 * draw(family, theta, np.full(2, (side - 1) / 2), side)[None]
    cutouts = Cutouts(image, np.ones_like(image), np.zeros((1, 2)))
    broad = make_family(shape, mixtures, SCALE, DEFAULT_PRIORS, square=8 / 12)
    found, sides, count = np.empty((1, 5)), np.zeros(1, np.int64), np.zeros(1, np.int64)
    stop, windows = Stop(1e-6, 3e-8, 40), np.array(mixture.CONFIG.windows)
    fit_summed(cutouts, broad, np.zeros(1), 3, stop, windows, 1e-3, found, sides, count)
    # Fourth moments of the squares are left out; the first fit need not be exact.
    np.testing.assert_allclose(found[0], theta, atol=0.01)
    middle = slice((side - sides[0]) // 2, (side + sides[0]) // 2)
    light = image[0] ** 2
    assert light[:, middle, middle].sum() / light.sum() > 0.998


def test_merged_gaussians_change_next_to_nothing(psf):
    mixtures = tuple(map(fit_psf, psf))
    half_t = float(size_class(np.array([-1.2]), SCALE)[1][0])
    for model in MODELS:
        families = [
            make_family(profile(model), mixtures, SCALE, DEFAULT_PRIORS, half)
            for half in (None, half_t)
        ]
        theta = THETA[: len(families[0].mean)]
        whole, fewer = (draw(family, theta, np.full(2, 12.0), SIDE) for family in families)
        assert np.abs(whole - fewer).max() / whole.max() < 5e-4
        if model != "gauss":
            assert len(families[1].fraction) < len(families[0].fraction)


def test_no_size_of_profile_or_batch_is_compiled_anew(galaxies):
    for model in MODELS:
        truth = galaxies(galaxy(), n=2, snr=50, size=33)
        measure_blends(
            truth.blends, truth.models, truth.xy, truth.psf, SCALE, "mixture", model=model
        )
    assert len(fit_summed.signatures) == len(fit_windows.signatures) == 1


def test_windows_and_summed_pixels_leave_the_solution_of_the_whole_stamp(galaxies, monkeypatch):
    truth = galaxies(galaxy(), n=25, snr=40, seed=4)
    fast = measure(truth)
    monkeypatch.setattr(mixture, "CONFIG", replace(mixture.CONFIG, windows=(), tolerance=1e-8))
    unmerged = replace(profile_model.CONFIG, merging_error=0.0)
    monkeypatch.setattr(profile_model, "CONFIG", unmerged)
    slow = measure(truth)
    difference = (fast["flux"] - slow["flux"]) / slow["flux_err"]
    assert np.abs(difference).max() < 0.3
    assert np.median(np.abs(difference)) < 0.03
    assert np.abs(np.median(difference)) < 0.02


def test_band_without_a_psf_mixture_component_does_not_matter(galaxies):
    # Bands may have mixtures of different length; the padding carries no light.
    truth = galaxies(galaxy(), n=1, snr=300)
    mixtures = tuple(map(fit_psf, truth.psf))
    short = PsfMixture(np.ones(1), mixtures[0].covariances[:1])
    cut = cut_stamps(truth.blends[0], truth.models[0], truth.xy[0])
    full, _ = mixture.fit_shapes(cut.only(np.array([False, True, True])), mixtures, SCALE)
    padded, _ = mixture.fit_shapes(
        cut.only(np.array([False, True, True])), (short, *mixtures[1:]), SCALE
    )
    np.testing.assert_allclose(full.flux[0, 1:], padded.flux[0, 1:], rtol=1e-5)
    assert np.isnan(full.flux[0, 0])


def test_result_does_not_depend_on_the_batch(galaxies):
    truth = galaxies(galaxy(), n=20, snr=30)
    together = measure(truth)
    alone = measure_blends(
        truth.blends[7:8], truth.models[7:8], truth.xy[7:8], truth.psf, SCALE, "mixture"
    )[0]
    np.testing.assert_array_equal(alone.flux[0], together["flux"][7])


def test_starts_are_of_sizes_that_the_footprint_can_have():
    """Stamps are as large as footprints with a margin; 1 arcsec is not the end."""
    small, large = (np.exp(mixture.first_sizes(side, 0.35) / 2) * 0.35 for side in (5.5, 16.3))
    np.testing.assert_allclose(small, [0.1, 0.35, 0.95], atol=0.005)
    np.testing.assert_allclose(large, [0.1, 0.35, 0.95, 2.59], atol=0.005)


def test_a_large_galaxy_keeps_its_flux_and_size(psf):
    """Half-light radius 2 arcsec; GalSim's flux on the stamp is what is to be found."""
    size, at = 97, np.array([48.2, 47.9])
    profile = galsim.Exponential(half_light_radius=2.0).shear(g1=0.2, g2=0.1)
    flux = np.array([4e4, 6e4, 9e4])
    light = draw_models([profile], psf, at[None], flux[None], size)
    noise = np.random.default_rng(3).normal(0, 5, light[0].shape)
    blend = make_blend(light[0] + noise, 5.0, at[None])
    (out,) = measure_blends([blend], [light], [at[None]], psf, SCALE, "mixture", model="bdf")
    np.testing.assert_allclose(out.flux[0], flux, rtol=0.03)
    assert out.r50[0] == pytest.approx(2.0, rel=0.05)
