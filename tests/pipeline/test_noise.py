"""Correlated noise from a tile on disk to the errors of its catalog and to the ledger."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import survey_sky as sky
from scipy.spatial import KDTree

from raydeblend.config import CatalogConfig
from raydeblend.detect.tile_noise import tile_noise
from raydeblend.fits import find_tiles, write_band
from raydeblend.pipeline.cell_state import CellState, run_stage
from raydeblend.pipeline.entries import LedgerEntry, read_entry
from raydeblend.pipeline.entry_tables import from_table, to_table
from raydeblend.pipeline.outcome import write_cell
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.stages import DeblendCell, detect_cell, measure_cell
from raydeblend.simulate.resampling import resample
from raydeblend.survey import get_survey

SIZE, STEP = 960, 40
CONFIG = CatalogConfig(bands=sky.BANDS, deblender="sep", photometry="mixture", cell_size=SIZE)
RATIO = 1.27
"""Of Lanczos-3 and half a pixel behind this PSF: tests/detect/test_detect_noise_correlation.py."""
BINS = ((5, 10), (10, 20), (20, 50))
"""Of signal to noise."""


def true_sources():
    """Columns x, y, flux of stars on a grid, of a signal to noise of 5 to 50 in each band."""
    rng = np.random.default_rng(8)
    places = np.stack(np.meshgrid(*[np.arange(STEP // 2, SIZE, STEP)] * 2), -1).reshape(-1, 2)
    error = np.sqrt(4 * np.pi) * sky.PSF_SIGMA * sky.NOISE
    flux = error * np.exp(rng.uniform(np.log(5 * RATIO), np.log(50 * RATIO), len(places)))
    return np.column_stack([places + rng.uniform(-5, 5, places.shape), flux])


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    x, y, flux = true_sources().T
    rows, columns = (
        np.exp(-((np.arange(SIZE)[:, None] - at) ** 2) / (2 * sky.PSF_SIGMA**2)) for at in (y, x)
    )
    light = (rows * flux) @ columns.T / (2 * np.pi * sky.PSF_SIGMA**2)
    for number, band in enumerate(sky.BANDS):
        white = np.random.default_rng(number).normal(0, sky.NOISE, (SIZE, SIZE))
        noise, variance = resample(white, np.full((SIZE, SIZE), sky.NOISE**2))
        path = f"{folder}/t_{band}.fits"
        mask, planes = np.zeros((SIZE, SIZE), np.int32), {"BAD": 0, "SAT": 1}
        write_band(
            path, light + noise, mask, variance, sky.header(0, 0), sky.psf(), sky.FLUX_MAG0, planes
        )
    (header,), _ = find_tiles(str(folder), sky.BANDS)
    return header


@cache
def measured(header, noise):
    config = replace(CONFIG, noise=noise)
    task = plan_survey([header], SIZE, 96).task(0)
    return measure_cell(DeblendCell(config)(detect_cell(task, config)), config)


def pulls(header, noise):
    """Of all sources found ``(n, bands)``, and their true signal to noise."""
    found, true = measured(header, noise).table.to_pandas(), true_sources()
    distance, row = KDTree(found[["x", "y"]]).query(true[:, :2])
    seen = distance < 2
    scale = header.files[0].njy_per_count
    flux, error = (
        np.stack([found[f"{name}_{b}"].to_numpy()[row[seen]] for b in sky.BANDS], axis=1)
        for name in ("flux_psf", "flux_psf_err")
    )
    truth = scale * true[seen, 2:]
    return (flux - truth) / error, truth / error


def test_errors_of_correlated_noise_are_right(header):
    pull, snr = pulls(header, "correlated")
    for low, high in BINS:
        some = pull[(snr > low) & (snr < high)]
        assert len(some) > 300
        # The width of n pulls is known to 1 / sqrt(2 n).
        assert np.std(some) == pytest.approx(1, abs=0.05 + 1 / np.sqrt(2 * len(some)))


def test_without_it_they_are_visibly_too_small(header):
    pull, snr = pulls(header, "independent")
    for low, high in BINS:
        assert np.std(pull[(snr > low) & (snr < high)]) > 1.18


def test_chi2_is_that_of_pixels_and_errors_are_larger_by_the_ratio(header):
    one, other = (measured(header, noise) for noise in ("correlated", "independent"))
    assert np.nanmedian(one.table["chi2"].to_numpy()) == pytest.approx(1, abs=0.03)
    assert np.nanmedian(other.table["chi2"].to_numpy()) == pytest.approx(1, abs=0.03)
    errors = [np.nanmedian(m.table["flux_psf_err_r"].to_numpy()) for m in (one, other)]
    assert errors[0] / errors[1] == pytest.approx(one.noise["r"], rel=0.03)
    assert other.noise == dict.fromkeys(sky.BANDS, 1.0)
    # At the threshold there are more of what is none.
    assert one.table.num_rows < other.table.num_rows


def test_every_cell_has_the_noise_of_its_tile_in_the_ledger(header, tmp_path):
    plan = plan_survey([header], SIZE // 2, 96)
    told = []
    for number in (0, 3):
        state = run_stage(CellState(plan.task(number)), "detect", lambda t: detect_cell(t, CONFIG))
        state = run_stage(state, "deblend", DeblendCell(CONFIG))
        state = run_stage(state, "measure", lambda s: measure_cell(s, CONFIG))
        write_cell(state, str(tmp_path), "w", "c")
        (path,) = tmp_path.glob(f"ledger/*/*{plan.task(number).cell.name}.json")
        told.append(read_entry(str(path)).noise_correlation)
    assert told[0] == told[1]
    assert set(told[0]) == set(sky.BANDS)
    assert list(told[0].values()) == pytest.approx([RATIO] * 3, rel=0.04)


def test_entries_with_and_without_it_survive_tables():
    entries = [
        LedgerEntry("t", "a", "done", noise_correlation={"g": 1.25}),
        LedgerEntry("t", "b", "done"),
    ]
    assert list(from_table(to_table(entries))) == entries
    old = to_table(entries).drop_columns(["noise_correlation"])
    assert all(not entry.noise_correlation for entry in from_table(old))


def test_a_tile_that_cannot_be_read_tells_nothing(header):
    gone = replace(header.files[0], image=header.files[0].image + ".gone")
    lost = replace(header, files=(gone, *header.files[1:]))
    assert np.isnan(tile_noise(lost, get_survey("HSC"), None)).all()
