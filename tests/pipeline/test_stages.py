from dataclasses import replace

import numpy as np
import pytest
import survey_sky as sky
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from raydeblend import catalog
from raydeblend.config import CatalogConfig
from raydeblend.detect.ids import pixels
from raydeblend.errors import TileError
from raydeblend.fits import find_tiles
from raydeblend.flags import Flag
from raydeblend.pipeline.cell_state import CellState, run_stage
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.outcome import write_cell
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.rows import counts
from raydeblend.pipeline.stages import DeblendCell, choose_photometry, detect_cell, measure_cell
from raydeblend.tile import Box

CONFIG = CatalogConfig(bands=sky.BANDS, deblender="sep", photometry="mixture")


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    sky.write_tile(folder, "t", size=200)
    (header,), _ = find_tiles(str(folder), sky.BANDS)
    return header


def tasks(header, size=200, border=60):
    plan = plan_survey([header], size, border)
    return [plan.task(i) for i in range(len(plan))]


@pytest.fixture(scope="module")
def measured(header):
    separated = DeblendCell(CONFIG)(detect_cell(tasks(header)[0], CONFIG))
    return separated, measure_cell(separated, CONFIG)


def test_the_stages_run_without_ray_and_keep_their_cost(header, tmp_path):
    work = CellState(tasks(header)[0])
    stages = {"detect": detect_cell, "deblend": None, "measure": measure_cell}
    work = run_stage(work, "detect", lambda task: detect_cell(task, CONFIG))
    work = run_stage(work, "deblend", DeblendCell(CONFIG))
    work = run_stage(work, "measure", lambda separated: measure_cell(separated, CONFIG))
    entry = write_cell(work, str(tmp_path), "weights", CONFIG.hash)
    assert entry.done
    assert set(entry.seconds) == {*stages, "write"}
    assert (entry.weights_hash, entry.config_hash) == ("weights", CONFIG.hash)
    assert read_entries(str(tmp_path)) == [entry]
    table = catalog.read_catalog(str(tmp_path))
    assert (entry.sources, entry.parents) == (
        table.num_rows,
        len(set(table["parent_id"].to_pylist())),
    )


def test_a_failure_passes_the_other_stages_and_becomes_a_ledger_entry(header, tmp_path):
    def fail(_):
        raise TileError("no pixels")

    work = run_stage(CellState(tasks(header)[0]), "detect", fail)
    assert run_stage(work, "deblend", fail) is work
    entry = write_cell(work, str(tmp_path), "", "")
    assert (entry.status, entry.reason) == ("failed", "detect: no pixels")
    assert read_entries(str(tmp_path)) == [entry]
    assert not (tmp_path / "catalog").exists()


def test_a_mistake_in_the_code_is_not_taken_for_a_bad_cell(header):
    with pytest.raises(AttributeError):
        run_stage(CellState(tasks(header)[0]), "detect", lambda task: task.no_such_thing)


def test_a_shard_that_cannot_be_written_fails_the_cell(header, tmp_path, measured):
    (tmp_path / "file").write_text("in the way")
    work = CellState(tasks(header)[0], content=measured[1])
    entry = write_cell(work, str(tmp_path / "file"), "", "")
    assert entry.status == "failed"
    assert "Not a directory" in entry.reason or "File exists" in entry.reason


def test_cells_own_each_source_once(header, measured):
    table = measured[1].table
    ids = []
    for task in tasks(header, size=100):
        part = measure_cell(DeblendCell(CONFIG)(detect_cell(task, CONFIG)), CONFIG).table
        # By the peak's pixel; a fit may have moved the place beyond.
        y, x = pixels(part["source_id"].to_numpy())
        assert all(task.cell.inner.contains(b, a) for a, b in zip(x, y, strict=True))
        assert np.hypot(x - part["x"].to_numpy(), y - part["y"].to_numpy()).max(initial=0) < 3
        ids += part["source_id"].to_pylist()
    assert sorted(ids) == table["source_id"].to_pylist()


def test_a_footprint_in_several_cells_counts_once(header, measured):
    tables = {
        task.cell.inner: measure_cell(DeblendCell(CONFIG)(detect_cell(task, CONFIG)), CONFIG).table
        for task in tasks(header, size=40)
    }
    per_cell = [counts(table, inner) for inner, table in tables.items()]
    rows = [set(table["parent_id"].to_pylist()) for table in tables.values()]
    whole = counts(measured[1].table, header.box)
    assert sum(len(parents) for parents in rows) > whole["parents"]
    for name in ("sources", "blends", "parents"):
        assert sum(count[name] for count in per_cell) == whole[name]


def test_rows_say_where_and_in_what_company_a_source_is(header, measured):
    separated, result = measured
    table = result.table
    found = {
        b.parent_id: len(p.xy)
        for b, p in zip(separated.detected.blends, separated.parts, strict=True)
    }
    for row in table.to_pylist():
        assert row["n_blended"] == found[row["parent_id"]]
        assert (row["quality"] == "isolated") <= (row["n_blended"] == 1)
        assert row["blendedness"] >= 0 if row["n_blended"] > 1 else abs(row["blendedness"]) < 1e-6
    assert set(table["tile"].to_pylist()) == {"t"}
    assert table["is_primary"].to_pylist() == [True] * table.num_rows
    assert table["p_unrecognized_blend"].null_count == table.num_rows


def test_a_cell_without_sources_gives_an_empty_shard(header):
    detected = detect_cell(tasks(header)[0], replace(CONFIG, detect_threshold=1e6))
    table = measure_cell(DeblendCell(CONFIG)(detected), CONFIG).table
    assert table.num_rows == 0
    assert table.schema.equals(catalog.schema(sky.BANDS))


def test_measured_sources_do_not_carry_not_attempted(measured):
    flags = np.array(measured[1].table["flags"].to_numpy())
    assert not (flags & Flag.NOT_ATTEMPTED).any()
    # Three galaxies have their centers beyond the tile's edge.
    failed = (flags & Flag.FIT_FAILED) > 0
    assert measured[1].table["flux_i"].null_count == failed.sum() == 3
    assert (flags[failed] & Flag.EDGE).all()


def test_every_method_fills_the_columns_that_it_can(measured):
    table = measured[1].table
    known = ~np.isnan(table["flux_i"].to_numpy())
    for name in ("ra_err", "dec_err", "ra_dec_cov", "r50", "flux_cov_g_i", "bulge_fraction_r"):
        assert np.isnan(table[name].to_numpy()).tolist() == (~known).tolist(), name
    for name in ("flux_psf_g", "flux_psf_err_g", "p_star"):
        assert table[name].null_count == 0, name
    # Only the joint fit knows how its shapes respond to shear.
    assert table["R11"].null_count == table["R12"].null_count == table.num_rows


def test_the_columns_agree_with_each_other(measured):
    frame = measured[1].table.to_pandas().dropna(subset="flux_i")
    snr = sum((frame[f"flux_{b}"] / frame[f"flux_err_{b}"]) ** 2 for b in sky.BANDS) ** 0.5
    np.testing.assert_allclose(frame["snr"], snr, rtol=1e-4)
    square = frame["g1"] ** 2 + frame["g2"] ** 2
    # Three scale lengths squared in two axes, each 1 / 1.678 of the half-light radius.
    expected = 6 * (frame["r50"] / 1.67835) ** 2 * (1 + square) / (1 - square)
    np.testing.assert_allclose(frame["T"], expected, rtol=1e-3)
    for a, b in (("g", "r"), ("g", "i"), ("r", "i")):
        product = frame[f"flux_err_{a}"] * frame[f"flux_err_{b}"]
        assert (np.abs(frame[f"flux_cov_{a}_{b}"]) <= product * 1.001).all()
    # Galaxies: none is a star, and the PSF holds a part of the light only.
    assert (frame["p_star"] < 0.5).all()
    assert (frame["flux_psf_i"] < frame["flux_i"]).mean() > 0.9


def test_positions_are_the_true_ones_within_their_errors(measured, header):
    """But for pairs closer than the seeing tells apart."""
    frame = measured[1].table.to_pandas().dropna(subset="flux_i")
    frame = frame[frame["flags"] == 0]
    truth = WCS(fits.Header.fromstring(header.wcs)).wcs_pix2world(sky.galaxies()[:, :2], 0)
    sources = SkyCoord(frame["ra"], frame["dec"], unit="deg")
    true = SkyCoord(truth, unit="deg")
    nearest, _, _ = sources.match_to_catalog_sky(true)
    _, apart, _ = true.match_to_catalog_sky(true, nthneighbor=2)
    told_apart = apart[nearest].arcsec > 1.2
    east, north = true[nearest].spherical_offsets_to(sources)
    pulls = [east.arcsec / frame["ra_err"], north.arcsec / frame["dec_err"]]
    pulls = np.concatenate([np.asarray(pull)[told_apart] for pull in pulls])
    assert len(pulls) >= 12
    # The median, since SExtractor overlooks a neighbor or two.
    assert 0.5 < 1.4826 * np.median(np.abs(pulls)) < 1.6


def test_the_joint_deblender_measures_its_own_sources(header):
    config = replace(CONFIG, deblender="joint", photometry="auto")
    assert choose_photometry(config) == "joint"
    config = replace(config, photometry="joint")
    separated = DeblendCell(config)(detect_cell(tasks(header)[0], config))
    table = measure_cell(separated, config).table
    # At the tile's edge a fitted center can lie off the footprint, which is then a failure.
    given_up = Flag.DEBLEND_FALLBACK | Flag.DEBLEND_FAILED
    own = {
        part.measured is not None
        for part in separated.parts
        if not part.flags & given_up and part.deblender == "joint"
    }
    assert own == {True}
    joint = table.filter(np.array(table["photometry"].to_pylist()) == "joint")
    assert joint.num_rows > table.num_rows / 2
    assert set(joint["model"].to_pylist()) == {"bulge+disk"}
    columns = ("flux_i", "flux_err_i", "snr", "T", "T_err", "g1_err", "chi2", *catalog.RESPONSE)
    for column in columns:
        assert joint[column].null_count == 0, column
    # Sums over the models, which are other numbers than the fitted fluxes, say the same.
    models = [part.models.sum((2, 3)) for part in separated.parts if part.measured is not None]
    fitted = [part.measured.flux for part in separated.parts if part.measured is not None]
    np.testing.assert_allclose(np.concatenate(models), np.concatenate(fitted), rtol=0.15)


def test_another_photometry_can_be_asked_for(header):
    config = replace(CONFIG, deblender="joint", photometry="mixture")
    assert choose_photometry(config) == "mixture"
    table = measure_cell(DeblendCell(config)(detect_cell(tasks(header)[0], config)), config).table
    assert set(table["photometry"].to_pylist()) == {"mixture"}


def test_a_cell_that_the_masks_rule_out_is_done_without_sources(tmp_path):
    """A survey's corners have no data; what has no mask and no light is a failure."""
    sky.write_tile(tmp_path, "t", size=200)
    for band in sky.BANDS:
        with fits.open(tmp_path / f"t_{band}.fits", mode="update") as hdus:
            hdus["MASK"].data[:, 100:] = 1
            hdus["IMAGE"].data[:, 100:] = np.nan
    (header,), _ = find_tiles(str(tmp_path), sky.BANDS)
    _, corner = (task for task in tasks(header, size=100, border=0) if task.cell.inner.y0 == 0)
    detected = detect_cell(replace_box(corner, Box(0, 195, 100, 200)), CONFIG)
    work = run_stage(CellState(corner, detected), "deblend", DeblendCell(CONFIG))
    work = run_stage(work, "measure", lambda separated: measure_cell(separated, CONFIG))
    entry = write_cell(work, str(tmp_path / "out"), "", "")
    assert (entry.status, entry.sources, entry.reason) == ("done", 0, "")
    for band in sky.BANDS:
        sky.blank(tmp_path / f"t_{band}.fits")
        with fits.open(tmp_path / f"t_{band}.fits", mode="update") as hdus:
            hdus["MASK"].data[:] = 0
    with pytest.raises(TileError, match="no band has usable pixels"):
        detect_cell(corner, CONFIG)


def replace_box(task, box):
    """The task with another region to read, so far off that no pixel of sky is in reach."""
    return replace(task, cell=replace(task.cell, outer=box))
