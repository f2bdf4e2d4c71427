import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint import JointDeblender
from raydeblend.deblend.sep import SepDeblender
from raydeblend.errors import ConfigError
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
    (row,) = evaluate_hsc_blends({"joint": JointDeblender()}, read_hsc_blends(str(folder)))
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
    (row,) = evaluate_hsc_blends({"nothing": Nothing()}, blends)
    image = blends[0].image[~blends[0].unusable].astype(float)
    assert row["chi2"] == pytest.approx(np.mean(image**2) / NOISE**2, rel=1e-4)
    assert (row["n_found"], row["flux_ratio"]) == (0, 0.0)


def test_the_command_writes_rows_and_a_table(folder, tmp_path):
    out = tmp_path / "scores"
    evaluation = run_evaluation("hsc-blends", ("joint",), str(folder), None, str(out))
    assert [row["deblender"] for row in evaluation.rows] == ["joint", "sep"]
    assert evaluation.tables.strip() == summary_table(evaluation.rows)
    assert (out / "metrics.json").exists()


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no \.npz files"):
        read_hsc_blends(str(tmp_path))
    np.savez(tmp_path / "1.npz", images=np.zeros((5, 4, 4)))
    with pytest.raises(ConfigError, match="lacks peaks, psfs, weights"):
        read_hsc_blends(str(tmp_path))
    with pytest.raises(ConfigError, match="needs a folder of blends"):
        run_evaluation("hsc-blends", ("sep",), None, None, str(tmp_path / "out"))
