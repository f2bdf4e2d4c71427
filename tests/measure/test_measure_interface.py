"""The interface: neighbors, masks, missing bands, bad stamps, both engines."""

import importlib.util
from dataclasses import replace

import galsim
import numpy as np
import pytest
from galaxy_stamps import BANDS, FLUX, SCALE, draw, make_blend, measure_blend

from raydeblend.errors import ConfigError
from raydeblend.fit import single as mixture
from raydeblend.fit.result import not_attempted
from raydeblend.flags import Flag
from raydeblend.measure import measure as module
from raydeblend.measure.measure import choose_engine, measure_blends

NEEDS_NGMIX = pytest.mark.skipif(
    importlib.util.find_spec("ngmix") is None, reason="ngmix is not installed"
)
ENGINES = ("mixture", pytest.param("ngmix", marks=NEEDS_NGMIX))
PROFILE = galsim.Exponential(half_light_radius=0.4).shear(g1=0.1, g2=0.05)


def measure_one(truth, engine, **changes):
    blend = replace(truth.blends[0], **changes)
    return measure_blend(blend, truth.models[0], truth.xy[0], truth.psf, SCALE, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_fluxes_of_a_good_stamp(galaxies, engine):
    truth = galaxies(PROFILE, n=1, snr=1000)
    out = measure_one(truth, engine)
    np.testing.assert_allclose(out.flux[0], truth.flux, rtol=0.01)
    size = 6 * galsim.Exponential(half_light_radius=0.4).scale_radius ** 2
    assert out.T[0] == pytest.approx(size * (1 + 0.0125) / (1 - 0.0125), rel=0.02)
    assert (out.g1[0], out.g2[0]) == pytest.approx((0.1, 0.05), abs=0.01)
    assert out.flags[0] == 0
    assert (out.photometry, out.model) == (engine, "exp")


def test_a_galaxy_that_is_flatter_than_a_disk_keeps_its_light(galaxies):
    truth = galaxies(galsim.Gaussian(half_light_radius=0.5), n=4, snr=1000)
    out = measure_blends(
        truth.blends, truth.models, truth.xy, truth.psf, SCALE, "mixture", model="bdf"
    )
    flux = np.concatenate([each.flux for each in out])
    np.testing.assert_allclose(np.median(flux, axis=0), truth.flux, rtol=0.005)
    assert max(each.bulge_fraction.max() for each in out) < 0.01


@NEEDS_NGMIX
def test_engines_agree_on_the_same_stamps(galaxies):
    truth = galaxies(PROFILE, n=30, snr=30, seed=5)
    args = (truth.blends, truth.models, truth.xy, truth.psf, SCALE)
    ours, theirs = (measure_blends(*args, engine) for engine in ("mixture", "ngmix"))
    flux, other, error = (
        np.concatenate([getattr(m, name) for m in run])
        for run, name in ((ours, "flux"), (theirs, "flux"), (theirs, "flux_err"))
    )
    difference = (flux - other) / error
    assert np.abs(np.median(difference, axis=0)).max() < 0.05
    assert (1.4826 * np.median(np.abs(difference - np.median(difference, 0)), 0)).max() < 0.15
    for name, tolerance in (("flux_err", 0.02), ("T", 0.05), ("snr", 0.01), ("chi2", 0.01)):
        mine, other = (np.concatenate([getattr(m, name) for m in r]) for r in (ours, theirs))
        np.testing.assert_allclose(np.median(mine / other), 1, atol=tolerance)
    for name in ("g1", "g2"):
        mine, other = (np.concatenate([getattr(m, name) for m in r]) for r in (ours, theirs))
        assert np.abs(mine - other).max() < 0.03


@NEEDS_NGMIX
def test_engines_agree_on_bulge_and_disk(galaxies):
    truth = galaxies(PROFILE, n=12, snr=100, seed=6)
    args = (truth.blends, truth.models, truth.xy, truth.psf, SCALE)
    ours, theirs = (measure_blends(*args, engine, model="bdf") for engine in ("mixture", "ngmix"))
    mine, other = (np.concatenate([m.flux for m in run]) for run in (ours, theirs))
    # ngmix cuts its bulges off at some eight half-light radii, and the light beyond is missing.
    assert 0.99 < np.median(mine / other) < 1.02
    for name, tolerance in (("T", 0.08), ("snr", 0.01), ("chi2", 0.01)):
        mine, other = (np.concatenate([getattr(m, name) for m in r]) for r in (ours, theirs))
        np.testing.assert_allclose(np.median(mine / other), 1, atol=tolerance)
    for name in ("g1", "g2"):
        mine, other = (np.concatenate([getattr(m, name) for m in r]) for r in (ours, theirs))
        assert np.abs(mine - other).max() < 0.02


@pytest.mark.parametrize("engine", ENGINES)
def test_neighbors_models_are_subtracted(psf, engine):
    size, sigma = 64, 2.0
    xy = np.array([[28.2, 31.0], [36.1, 33.4]])
    models = np.stack(
        [
            np.stack([f * s * draw(PROFILE, p, at, size) for p, f in zip(psf, FLUX, strict=True)])
            for at, s in zip(xy, (1.0, 0.5), strict=True)
        ]
    )
    noise = np.random.default_rng(0).normal(0, sigma, models.shape[1:])
    blend = make_blend(models.sum(0) + noise, sigma, xy)
    out = measure_blend(blend, models, xy, psf, SCALE, engine)
    expected = FLUX * np.array([[1.0], [0.5]])
    assert np.abs((out.flux - expected) / out.flux_err).max() < 4
    # Without the models the bright one takes its neighbor's light.
    alone = measure_blend(blend, 0 * models, xy, psf, SCALE, engine)
    assert alone.flux[0, 2] > 1.1 * expected[0, 2]


@pytest.mark.parametrize("engine", ENGINES)
def test_missing_band_is_null_and_leaves_the_others(galaxies, engine):
    truth = galaxies(PROFILE, n=1, snr=300)
    unusable = truth.blends[0].unusable.copy()
    unusable[1] = True
    image = truth.blends[0].image.copy()
    image[1] = np.nan
    full, out = (
        measure_one(truth, engine),
        measure_one(truth, engine, unusable=unusable, image=image),
    )
    assert np.isnan(out.flux[0, 1])
    assert np.isnan(out.flux_err[0, 1])
    assert out.flags[0] == Flag.BAND_MISSING
    keep = [0, 2]
    assert np.abs((out.flux - full.flux) / full.flux_err)[0, keep].max() < 1


@pytest.mark.parametrize("engine", ENGINES)
def test_half_masked_band_and_nan_pixels_keep_the_flux(galaxies, engine):
    truth = galaxies(PROFILE, n=1, snr=300, seed=2)
    unusable = truth.blends[0].unusable.copy()
    unusable[0, :, :24] = True
    image = truth.blends[0].image.copy()
    image[2, 20:22, 26] = np.nan
    image[0, :, :24] = 1e6
    out = measure_one(truth, engine, unusable=unusable, image=image)
    assert out.flags[0] == 0
    assert np.abs((out.flux[0] - truth.flux) / out.flux_err[0]).max() < 4
    assert out.flux_err[0, 0] > measure_one(truth, engine).flux_err[0, 0]


def bad_stamps(truth):
    blend = truth.blends[0]
    shape = blend.image.shape
    return {
        "all masked": replace(blend, unusable=np.ones(shape, bool)),
        "all NaN": replace(blend, image=np.full(shape, np.nan, np.float32)),
        "variance zero": replace(blend, variance=np.zeros(shape, np.float32)),
        "variance negative": replace(blend, variance=np.full(shape, -1, np.float32)),
        "variance NaN": replace(blend, variance=np.full(shape, np.nan, np.float32)),
        "one pixel": make_blend(np.ones((3, 1, 1)), 1.0, np.zeros((1, 2))),
    }


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ["all masked", "all NaN", "variance zero", "variance negative",
                                  "variance NaN", "one pixel"])  # fmt: skip
def test_bad_stamp_gives_nulls_and_a_flag_and_spoils_no_other(galaxies, engine, case):
    truth = galaxies(PROFILE, n=2, snr=100)
    bad = bad_stamps(truth)[case]
    models = [np.zeros((1, *bad.image.shape)), truth.models[1]]
    xy = [truth.xy[0], truth.xy[1]]
    failed, good = measure_blends([bad, truth.blends[1]], models, xy, truth.psf, SCALE, engine)
    assert failed.flags[0] & Flag.FIT_FAILED
    assert not failed.flags[0] & Flag.NOT_ATTEMPTED
    assert np.isnan(failed.flux).all()
    assert np.isnan([failed.snr[0], failed.T[0], failed.g1[0], failed.chi2[0]]).all()
    assert good.flags[0] == 0
    assert np.isfinite(good.flux).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("position", [[-400.0, 10.0], [np.nan, 3.0], [1e30, 0.0]])
def test_position_off_the_stamp(galaxies, engine, position):
    truth = galaxies(PROFILE, n=1, snr=100)
    out = measure_blend(
        truth.blends[0], truth.models[0], np.array([position]), truth.psf, SCALE, engine
    )
    assert out.flags[0] & Flag.FIT_FAILED


@pytest.mark.parametrize("engine", ENGINES)
def test_negative_and_pure_noise_fluxes_are_numbers(psf, engine):
    noise = np.random.default_rng(1).normal(0, 1, (3, 48, 48))
    xy = np.full((1, 2), 23.5)
    light = np.stack([draw(PROFILE, p, xy[0], 48) for p in psf])
    for image in (noise, noise - 300 * light):
        out = measure_blend(
            make_blend(image, 1.0, xy), np.zeros((1, *image.shape)), xy, psf, SCALE, engine
        )
        assert out.flags[0] & Flag.FIT_FAILED or np.isfinite(out.flux).all()
    assert np.all(out.flux < 0) or out.flags[0] & Flag.FIT_FAILED


@pytest.mark.parametrize("engine", ENGINES)
def test_unusable_psf_of_one_band_is_a_missing_band(galaxies, engine):
    truth = galaxies(PROFILE, n=1, snr=100)
    psf = (truth.psf[0], np.zeros((9, 9)), truth.psf[2])
    out = measure_blend(truth.blends[0], truth.models[0], truth.xy[0], psf, SCALE, engine)
    assert np.isnan(out.flux[0]).tolist() == [False, True, False]
    assert out.flags[0] == Flag.BAND_MISSING


def test_flags_of_the_footprint_are_kept(galaxies):
    truth = galaxies(PROFILE, n=1, snr=100)
    out = measure_one(truth, "mixture", flags=int(Flag.EDGE | Flag.MASKED))
    assert out.flags[0] == Flag.EDGE | Flag.MASKED


def test_blends_of_different_sizes_and_counts_keep_their_order(galaxies, psf):
    small, large = galaxies(PROFILE, n=1, snr=300), galaxies(PROFILE, n=1, snr=300, size=80)
    nothing = (small.blends[0], np.zeros((0, 3, 48, 48)), np.zeros((0, 2)))
    blends = [large.blends[0], nothing[0], small.blends[0]]
    models = [large.models[0], nothing[1], small.models[0]]
    out = measure_blends(
        blends, models, [large.xy[0], nothing[2], small.xy[0]], psf, SCALE, "mixture"
    )
    assert [len(m.flags) for m in out] == [1, 0, 1]
    for m in (out[0], out[2]):
        np.testing.assert_allclose(m.flux[0], FLUX, rtol=0.05)


def test_no_blends():
    assert measure_blends([], [], [], [np.ones((3, 3))] * len(BANDS), SCALE, "mixture") == []


def test_same_seed_same_numbers(galaxies):
    pytest.importorskip("ngmix")
    truth = galaxies(PROFILE, n=3, snr=30)
    args = (truth.blends, truth.models, truth.xy, truth.psf, SCALE, "ngmix")
    one, two = measure_blends(*args, seed=4), measure_blends(*args, seed=4)
    assert all(np.array_equal(a.flux, b.flux) for a, b in zip(one, two, strict=True))
    alone = measure_blends(*(a[1:2] for a in args[:3]), *args[3:], seed=4)[0]
    np.testing.assert_array_equal(alone.flux, one[1].flux)


def test_auto_takes_what_is_installed(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert choose_engine("auto") == "mixture"
    with pytest.raises(ConfigError, match="not installed"):
        choose_engine("ngmix")
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert choose_engine("auto") == "ngmix"


def test_unknown_engine_and_model():
    with pytest.raises(ConfigError, match="ngmix or mixture"):
        choose_engine("sextractor")
    with pytest.raises(ConfigError, match="known: "):
        measure_blends([], [], [], [], SCALE, "mixture", model="king")


@pytest.mark.parametrize("engine", ENGINES)
def test_absurd_pixels_do_not_raise(galaxies, engine):
    truth = galaxies(PROFILE, n=1, snr=100)
    for value in (1e38, np.inf, -1e30):
        image = np.full(truth.blends[0].image.shape, value, np.float32)
        out = measure_one(truth, engine, image=image)
        assert out.flags[0] & Flag.FIT_FAILED or np.isfinite(out.flux).all()


def test_every_source_starts_as_not_attempted():
    rows = not_attempted(2, 3, "exp", "mixture")
    assert rows.flags.tolist() == [Flag.NOT_ATTEMPTED] * 2
    assert np.isnan(rows.flux).all()


def test_iteration_limit_is_flagged(galaxies, monkeypatch):
    truth = galaxies(PROFILE, n=1, snr=100)
    monkeypatch.setattr(mixture, "CONFIG", replace(mixture.CONFIG, max_steps=1))
    assert measure_one(truth, "mixture").flags[0] == Flag.FIT_NOT_CONVERGED
