"""The mixture fitter against GalSim's truth, finite differences and analytic errors."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
import torch
from galaxy_stamps import SCALE, make_blend

from raydeblend.fit import profile_model as mixture_model
from raydeblend.fit import single as mixture
from raydeblend.fit.levenberg_marquardt import evaluate
from raydeblend.fit.profile_model import (
    make_pairs,
    make_problem,
    model_maps,
    size_class,
    unit_model,
)
from raydeblend.fit.profiles import BULGE_RADIUS, MODELS, profile
from raydeblend.fit.psf import PsfMixture, fit_psf
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


@pytest.mark.parametrize("model", MODELS)
def test_derivatives_agree_with_finite_differences(galaxies, monkeypatch, model):
    monkeypatch.setattr(mixture_model, "PIXEL_TYPE", torch.float64)
    truth = galaxies(galaxy(), n=2, snr=50, size=24)
    cuts = [cut_stamps(*args) for args in zip(truth.blends, truth.models, truth.xy, strict=True)]
    psf = tuple(map(fit_psf, truth.psf))
    problem = make_problem(cuts[0], psf, SCALE, profile(model), DEFAULT_PRIORS)
    theta = torch.tensor([[0.2, -0.1, 0.15, 0.1, -1.2, 0.3]], dtype=torch.float64)
    theta = theta[:, : problem.parameters]
    state = evaluate(problem, theta)
    maps = model_maps(problem, theta)
    for i in range(problem.parameters):
        step = torch.zeros_like(theta)
        step[0, i] = 1e-5
        up, down = (evaluate(problem, theta + s) for s in (step, -step))
        slope = (up.objective - down.objective) / 2e-5
        assert float(state.gradient[0, i]) == pytest.approx(float(slope), rel=1e-4, abs=1e-3)
        values = [unit_model(problem, theta + s) for s in (step, -step)]
        numeric = (values[0] - values[1]) / 2e-5
        torch.testing.assert_close(maps[:, :, 1 + i], numeric, rtol=1e-4, atol=1e-8)


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
    size = 6 * disk.scale_radius**2 * (1 + 0.02) / (1 - 0.02)
    assert np.mean([m.T[0] for m in out]) == pytest.approx(size, rel=0.03 if bulge < 1 else 0.3)
    assert np.mean([m.g1[0] for m in out]) == pytest.approx(0.1, abs=0.005)


def test_summed_pixels_have_the_model_of_the_pixels(galaxies, monkeypatch):
    monkeypatch.setattr(mixture_model, "PIXEL_TYPE", torch.float64)
    truth = galaxies(galaxy(), n=1, snr=50)
    cut = cut_stamps(truth.blends[0], truth.models[0], truth.xy[0])
    problem = make_problem(
        cut, tuple(map(fit_psf, truth.psf)), SCALE, profile("exp"), DEFAULT_PRIORS
    )
    theta = torch.tensor([[0.2, -0.1, 0.15, 0.1, -1.2]], dtype=torch.float64)
    coarse = mixture.summed(problem)
    value = unit_model(problem, theta).view(1, 3, problem.side, problem.side)
    keep = coarse.side * mixture.BIN
    mean = torch.nn.functional.avg_pool2d(value[..., :keep, :keep], mixture.BIN).flatten(2)
    # Fourth moments of the squares are left out; the first fit need not be exact.
    assert float((unit_model(coarse, theta) - mean).abs().max() / mean.max()) < 0.01
    torch.testing.assert_close(coarse.weight.sum(), problem.weight.view_as(value)[
        ..., :keep, :keep].sum())  # fmt: skip


def test_merged_gaussians_change_next_to_nothing(galaxies):
    truth = galaxies(galaxy(), n=1, snr=50)
    cut = cut_stamps(truth.blends[0], truth.models[0], truth.xy[0])
    psf = tuple(map(fit_psf, truth.psf))
    for model in MODELS:
        problem = make_problem(cut, psf, SCALE, profile(model), DEFAULT_PRIORS)
        theta = torch.tensor([[0.2, -0.1, 0.15, 0.1, -1.2, 0.5]], dtype=torch.float64)
        theta = theta[:, : problem.parameters]
        half_t = float(size_class(np.array([-1.2]), SCALE)[1][0])
        merged = replace(problem, pairs=make_pairs(profile(model), psf, half_t))
        whole, fewer = (unit_model(p, theta) for p in (problem, merged))
        assert float((whole - fewer).abs().max() / whole.max()) < 5e-4
        if model != "gauss":
            assert len(merged.pairs.gal_weight) < len(problem.pairs.gal_weight)


def test_windows_and_summed_pixels_leave_the_solution_of_the_whole_stamp(galaxies, monkeypatch):
    truth = galaxies(galaxy(), n=25, snr=40, seed=4)
    fast = measure(truth)
    monkeypatch.setattr(mixture, "WINDOWS", ())
    monkeypatch.setattr(mixture_model, "MERGING_ERROR", 0.0)
    monkeypatch.setattr(mixture.solve, "__defaults__", (1e-8, None))
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
    np.testing.assert_allclose(alone.flux[0], together["flux"][7], rtol=1e-5)
