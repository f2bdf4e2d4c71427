import io
import re

import galsim
import numpy as np
import pytest
from matplotlib.image import imread

from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.sep import SepDeblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.request import Request
from raydeblend.evaluate.common.scarlet import ScarletDeblender, find_scarlet
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.hsc_blends import (
    BANDS,
    MIN_SIZE,
    PIXEL_SCALE,
    evaluate_hsc_blends,
    read_hsc_blends,
    summary_table,
)
from raydeblend.evaluate.protocol import run_evaluation

PSF = galsim.Moffat(beta=3, fwhm=0.65)
PEAKS = np.array([[14.0, 13.0], [25.0, 15.0]])
NOISE = 0.5


def draw(x, y, flux):
    galaxy = galsim.Convolve(galsim.Exponential(half_light_radius=0.3, flux=flux), PSF)
    image = galaxy.drawImage(
        nx=40, ny=28, scale=PIXEL_SCALE, offset=(x - 19.5, y - 13.5), method="auto"
    )
    return image.array


@pytest.fixture
def folder(tmp_path):
    """One blend of 28 x 40 pixels whose outermost columns belong to others."""
    clean = np.stack([draw(*PEAKS[0], 900.0) + draw(*PEAKS[1], 400.0)] * len(BANDS))
    image = clean + np.random.default_rng(4).normal(0, NOISE, clean.shape)
    weights = np.full(image.shape, NOISE**-2)
    weights[:, :, :2] = 0
    image[:, :, :2] = 1e4
    stamp = PSF.drawImage(nx=41, ny=41, scale=PIXEL_SCALE).array
    psfs = np.stack([stamp] * len(BANDS))
    np.savez(tmp_path / "1.npz", images=image, weights=weights, peaks=PEAKS, psfs=psfs)
    return tmp_path


def test_small_stamps_are_padded_with_what_counts_for_nothing(folder):
    (blend,) = read_hsc_blends(str(folder))
    assert blend.image.shape == (5, MIN_SIZE, 40)
    assert blend.unusable[:, 28:].all()
    assert blend.unusable[:, :, :2].all()
    assert blend.unusable.sum() == 5 * (4 * 40 + 28 * 2)


def test_a_good_deblender_leaves_the_noise_and_finds_the_peaks(folder):
    (score,) = evaluate_hsc_blends({"joint": JointDeblender()}, read_hsc_blends(str(folder)))
    row = score.row
    assert (row["n_peaks"], row["n_found"], row["n_sources"]) == (2, 2, 2)
    # χ² per pixel of pure noise is 1, with a scatter of (2 / 5320)^½ = 0.019.
    assert row["chi2"] == pytest.approx(1, abs=0.08)
    assert row["flux_ratio"] == pytest.approx(1, abs=0.02)


class Nothing:
    """A deblender that never finds anything."""

    name = "nothing"

    def __call__(self, images, **options):
        return SepDeblender()(np.zeros_like(images), variance=options["variance"])


def test_without_models_chi2_is_that_of_the_image(folder):
    blends = read_hsc_blends(str(folder))
    (score,) = evaluate_hsc_blends({"nothing": Nothing()}, blends)
    row = score.row
    image = blends[0].image[~blends[0].unusable].astype(float)
    assert row["chi2"] == pytest.approx(np.mean(image**2) / NOISE**2, rel=1e-4)
    assert (row["n_found"], row["flux_ratio"]) == (0, 0.0)


def test_the_command_writes_rows_and_a_table(folder, tmp_path):
    out = tmp_path / "scores"
    evaluation = run_evaluation(Request("hsc-blends", ("joint",), str(folder), None, str(out)))
    names = [row["deblender"] for row in evaluation.rows]
    assert names[:2] == ["joint", "sep"]
    assert ("scarlet" in names) == (find_scarlet() is not None)
    assert evaluation.tables == to_markdown([summary_table(evaluation.rows)])
    assert ("was not run" in evaluation.tables) == (find_scarlet() is None)
    assert (out / "metrics.json").exists()
    assert imread(io.BytesIO((out / "residuals.png").read_bytes())).std() > 0.05


def test_intervals_are_those_of_resampled_blends():
    rng = np.random.default_rng(8)
    rows = [
        {"deblender": "a", "n_peaks": 4, "n_sources": 4, "n_found": found, "seconds": 0.1}
        | {"chi2": chi2, "flux_ratio": 1.0}
        for chi2, found in zip(rng.normal(1, 0.1, 400), rng.integers(1, 5, 400), strict=True)
    ]
    cells = summary_table(rows).rows[0]
    value, low, high = (float(x) for x in re.findall(r"[\d.]+", cells[2]))
    # The standard error of the median of n normal numbers is (pi / 2n)^(1/2) sigma.
    assert high - low == pytest.approx(4 * 0.1 * np.sqrt(np.pi / 800), rel=0.3)
    assert low < value < high
    share = sum(row["n_found"] for row in rows) / 1600
    assert float(cells[6].split("%")[0]) == pytest.approx(100 * share, abs=0.06)
    assert cells[4] == "1.000 (1.000 to 1.000)"


@pytest.mark.skipif(find_scarlet() is None, reason="scarlet is not installed")
def test_scarlet_is_given_the_peaks(folder):
    (score,) = evaluate_hsc_blends(
        {"scarlet": ScarletDeblender.load()}, read_hsc_blends(str(folder))
    )
    assert (score.row["n_found"], score.row["n_sources"]) == (2, 2)
    assert score.row["chi2"] == pytest.approx(1, abs=0.2)
    assert score.row["flux_ratio"] == pytest.approx(1, abs=0.1)


@pytest.mark.skipif(find_scarlet() is not None, reason="scarlet is installed")
def test_scarlet_that_is_not_there_is_one_sentence(folder, tmp_path):
    with pytest.raises(ConfigError, match="scarlet is not installed here"):
        run_evaluation(
            Request("hsc-blends", ("scarlet",), str(folder), None, str(tmp_path / "out"))
        )
    assert not (tmp_path / "out").exists()


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no \.npz files"):
        read_hsc_blends(str(tmp_path))
    np.savez(tmp_path / "1.npz", images=np.zeros((5, 4, 4)))
    with pytest.raises(ConfigError, match="lacks peaks, psfs, weights"):
        read_hsc_blends(str(tmp_path))
    with pytest.raises(ConfigError, match="needs a folder of blends"):
        run_evaluation(Request("hsc-blends", ("sep",), None, None, str(tmp_path / "out")))
