"""The adapter inside a real BlendingToolkit; skipped where it is not installed."""

import warnings

import numpy as np
import pytest

from raydeblend.detect.matching import match_positions

pytest.importorskip("btk", reason="needs BlendingToolkit (docs/btk.md)")

import galsim
from astropy.table import Table
from btk import (
    blend_batch,
    catalog,
    deblend,
    draw_blends,
    sampling_functions,
    survey,
)

from raydeblend.btk import RayDeblendDeblender, psf_stamps, sky_variance

BATCH, MOST = 4, 3


def galaxies(n=60):
    """A CatSim table of bright disks, in the columns that BlendingToolkit reads."""
    rng = np.random.default_rng(0)
    table = Table()
    size = rng.uniform(0.3, 0.6, n)
    for name in ("a_b", "b_b", "fluxnorm_bulge", "fluxnorm_agn", "pa_bulge"):
        table[name] = np.zeros(n)
    table["a_d"], table["b_d"] = size, size * rng.uniform(0.6, 1, n)
    table["fluxnorm_disk"], table["pa_disk"] = np.ones(n), rng.uniform(0, 360, n)
    table["ra"], table["dec"], table["redshift"] = np.zeros((3, n))
    table["galtileid"] = np.arange(n)
    for band in "ugrizy":
        table[f"{band}_ab"] = rng.uniform(21, 22, n)
    return catalog.CatsimCatalog(table)


@pytest.fixture(scope="module")
def batch_and_results():
    """One batch of blends of two, 15 pixels apart on average, and what both deblenders find."""
    sampling = sampling_functions.DefaultSampling(
        max_number=2, min_number=2, stamp_size=24.0, max_shift=4.0, seed=5, max_mag=25.3,
        mag_name="i_ab",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lsst = survey.get_surveys("LSST")
        draw = draw_blends.CatsimGenerator(galaxies(), sampling, lsst, BATCH, seed=6)
        ours = [RayDeblendDeblender(MOST, "sep"), RayDeblendDeblender(MOST, "joint")]
        theirs = deblend.SepSingleBand(MOST, use_band=2)
        generator = deblend.DeblendGenerator([*ours, theirs], draw)
        return next(generator)


def test_the_generator_files_each_deblender_under_its_name(batch_and_results):
    _, results = batch_and_results
    assert set(results) == {
        "RayDeblendDeblender(sep)", "RayDeblendDeblender(joint)", "SepSingleBand",
    }  # fmt: skip


def test_images_and_catalogs_have_the_toolkits_shape(batch_and_results):
    batch, results = batch_and_results
    ours = results["RayDeblendDeblender(joint)"]
    assert isinstance(ours, blend_batch.DeblendBatch)
    shape = (BATCH, MOST, 6, batch.image_size, batch.image_size)
    assert ours.deblended_images.shape == shape
    for table, images in zip(ours.catalog_list, ours.deblended_images, strict=True):
        assert {"ra", "dec", "x_peak", "y_peak", "quality"} <= set(table.colnames)
        assert not images[len(table) :].any()


def test_fluxes_and_positions_are_those_of_the_truth(batch_and_results):
    batch, results = batch_and_results
    errors = []
    for i, table in enumerate(results["RayDeblendDeblender(joint)"].catalog_list):
        truth = batch.catalog_list[i]
        # The toolkit's own sky positions of truth and ours, in arcsec.
        found, true = (np.array([t["ra"], t["dec"]], dtype=float).T for t in (table, truth))
        match = match_positions(found, true, radius=1.0)
        assert (match >= 0).all()
        models = results["RayDeblendDeblender(joint)"].deblended_images[i][match]
        flux = models[:, 1:5].sum(axis=(1, 2, 3))
        errors.append(flux / batch.isolated_images[i, :, 1:5].sum(axis=(1, 2, 3)) - 1)
        assert np.linalg.norm(found[match] - true, axis=1).max() < 0.1
    assert np.median(np.abs(errors)) < 0.03


def test_noise_and_psf_are_those_of_the_batch(batch_and_results):
    batch, _ = batch_and_results
    noise = batch.blend_images - batch.isolated_images.sum(axis=1)
    corner = noise[:, :, :15, :15].std(axis=(0, 2, 3))
    np.testing.assert_allclose(corner, np.sqrt(sky_variance(batch)[:, 0, 0]), rtol=0.1)
    stamps = psf_stamps(batch)
    np.testing.assert_allclose(stamps.sum(axis=(1, 2)), 1, rtol=1e-5)
    fwhm = galsim.Image(stamps[2].astype(float), scale=0.2).calculateFWHM()
    assert fwhm == pytest.approx(batch.psf[2].calculateFWHM(scale=0.2), rel=0.1)


def test_one_blend_is_the_same_alone_and_too_many_sources_are_cut(batch_and_results):
    batch, results = batch_and_results
    alone = RayDeblendDeblender(1, "sep").deblend(1, batch)
    together = results["RayDeblendDeblender(sep)"]
    assert len(alone.catalog) == 1
    np.testing.assert_allclose(alone.deblended_images[0], together.deblended_images[1, 0])
    assert np.abs(alone.catalog["ra"]).max() < 12  # arcsec: half a stamp
    assert alone.extra_data["n_found"] == len(together.catalog_list[1])
