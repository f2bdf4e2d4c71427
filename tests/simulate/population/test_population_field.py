import numpy as np
import pytest
from scipy.spatial import cKDTree

from raydeblend.simulate.population.depth import HSC_WIDE, as_observed
from raydeblend.simulate.population.field import (
    CLUSTER_RANGE,
    clustered,
    draw_magnitudes,
    realistic_scene,
)
from raydeblend.simulate.population.seeing import draw_seeing
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.population.stars import LOCUS, draw_locus_stars
from raydeblend.simulate.scene import Grid, truth_table
from raydeblend.survey import draw_psf, get_survey
from raydeblend.tile import Box

HSC = get_survey("HSC")


def test_counts_rise_as_in_cosmos():
    """COSMOS, Subaru i: 1.47 times as many at 22-22.5 as at 21.5-22; from 20 to 22, 10^0.71."""
    i = draw_magnitudes(400_000, 24.0, np.random.default_rng(0))
    counts = np.histogram(i, [20, 20.5, 21.5, 22, 22.5])[0]
    assert counts[3] / counts[2] == pytest.approx(7404 / 5188, rel=0.05)
    assert counts[2] / counts[0] == pytest.approx(5188 / 1447, rel=0.12)
    assert i.max() <= 24


def excess(xy, low, high, side):
    """w between two distances of points in a square, against as many random ones."""
    rng = np.random.default_rng(9)
    random = rng.uniform(0, side, (len(xy), 2))
    dd, rr = (np.diff(cKDTree(p).count_neighbors(cKDTree(p), [low, high]))[0] for p in (xy, random))
    return dd / rr - 1


def test_galaxies_cluster_as_in_cosmos():
    """w of COSMOS galaxies of i < 23.3, measured in their catalog: 0.53 at 3-5", 0.30 at 7-10"."""
    side = 6000
    # 46 galaxies of i < 25 per square arcminute, 10^0.31 times as many a magnitude (LSST Science
    # Book, section 3.7).
    n = int(46 * 10 ** (0.31 * (23.3 - 25)) * (side / 60) ** 2)
    places = clustered(n, Box(0, 0, side, side), 1.0, np.random.default_rng(1))
    inside = places[((places > 0) & (places < side)).all(axis=1)]
    assert excess(inside, 3, 5, side) == pytest.approx(0.53, abs=0.15)
    assert excess(inside, 7, 10, side) == pytest.approx(0.30, abs=0.12)
    nearest = cKDTree(inside).query(inside, k=2)[0][:, 1]
    # Few random pairs are closer than the closest neighbors.
    assert (nearest < CLUSTER_RANGE[0]).mean() < 0.002
    assert (nearest < 0.5).mean() > 0.003


def test_stars_lie_on_the_locus():
    flux = draw_locus_stars(3600.0, ("g", "r", "i"), np.random.default_rng(2))
    g, r, i = (31.4 - 2.5 * np.log10(flux)).T
    off = (g - r) - np.interp(g - i, LOCUS[:, 0], LOCUS[:, 2])
    assert np.abs(np.median(off)) < 0.02
    assert off.std() < 0.08
    assert i.min() > 15.4
    # COSMOS and its like (b = 42 deg): one to two stars of i < 22 per square arcmin.
    assert 0.6 < (i < 22).sum() / 3600 < 2.2


def test_hsc_is_as_deep_as_its_wide_layer():
    deep = as_observed(HSC)
    rng = np.random.default_rng(3)
    for band in ("g", "i"):
        psf = draw_psf(galsim_psf(band), HSC.pixel_scale).astype(float)
        star = 10 ** (0.4 * (31.4 - HSC_WIDE[band])) * psf
        noise = rng.normal(0, deep.band(band).sky_sigma, (4000, *psf.shape))
        fluxes = ((star + noise) * psf).sum(axis=(1, 2)) / (psf**2).sum()
        assert fluxes.mean() / fluxes.std() == pytest.approx(5, rel=0.05)
    assert as_observed(get_survey("LSST")) == get_survey("LSST")


def galsim_psf(band):
    from raydeblend.survey import psf_profile

    return psf_profile(HSC, band)


def test_psfs_differ_by_band_and_are_elliptical():
    rng = np.random.default_rng(5)
    shears, ratios = [], []
    for _ in range(60):
        g, i = draw_seeing(HSC, ("g", "i"), rng)
        stamps = [psf.drawImage(nx=61, ny=61, scale=0.168) for psf in (g, i)]
        moments = [stamp.FindAdaptiveMom() for stamp in stamps]
        shears.append([m.observed_shape.g for m in moments])
        ratios.append(moments[0].moments_sigma / moments[1].moments_sigma)
    assert 0.01 < np.median(shears) < 0.06
    assert np.std(ratios) > 0.02
    assert np.median(ratios) == pytest.approx(0.79 / 0.61, rel=0.15)


def test_a_field_says_what_is_in_it():
    grid = Grid(1, 400, 0, HSC.pixel_scale)
    scene = realistic_scene(HSC, ("g", "r", "i"), grid, 60.0, 1, find_stamps(None, "train"))
    again = realistic_scene(HSC, ("g", "r", "i"), grid, 60.0, 1, find_stamps(None, "train"))
    assert np.array_equal(scene.xy, again.xy)
    truth = truth_table(scene)
    assert {"kind", "cls", "n", "r50", "bulge_fraction_g", "x", "y"} <= set(truth.column_names)
    kinds = np.array(truth["kind"].to_pylist())
    assert {"sersic", "bd"} <= set(kinds)
    stars = truth["is_star"].to_numpy()
    assert (kinds[stars] == "star").all()
    assert truth["r50"].is_null().to_numpy()[stars].all()
    has_index = ~truth["n"].is_null().to_numpy()
    assert has_index.tolist() == (kinds == "sersic").tolist()
