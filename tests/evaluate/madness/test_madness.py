"""The protocol of MADNESS with deblenders whose errors are known."""

import io
import json

import galsim
import numpy as np
import pytest
from matplotlib.image import imread

from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.request import Request
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.madness.report import field_figure, field_tables, origin, residual_figure
from raydeblend.evaluate.madness.scores import (
    DETECTED,
    GIVEN,
    aperture_flux,
    cosine,
    evaluate_madness,
    load_deblenders,
    relative_ssim,
)
from raydeblend.evaluate.protocol import run_evaluation
from raydeblend.simulate.fields import Field, FieldSet
from raydeblend.tile import Deblended

BANDS = ("g", "r")
SIZE = 64
XY = np.array([[20.0, 22.0], [26.0, 24.0], [45.0, 44.0]])
FLUX = np.array([[300.0, 500.0], [150.0, 100.0], [200.0, 400.0]])
ELLIPSE = np.array([[3.0, 2.0, 0.5], [2.0, 2.0, 0.0], [4.0, 1.5, -1.0]])


def make_field(seed):
    def draw(x, y, flux):
        offset = (x - (SIZE - 1) / 2, y - (SIZE - 1) / 2)
        galaxy = galsim.Exponential(half_light_radius=2.5, flux=flux)
        seen = galsim.Convolve(galaxy, galsim.Gaussian(fwhm=4))
        return seen.drawImage(nx=SIZE, ny=SIZE, scale=1, offset=offset).array

    isolated = np.array([[draw(*xy, f) for f in flux] for xy, flux in zip(XY, FLUX, strict=True)])
    noise = np.random.default_rng(seed).normal(size=isolated.shape[1:])
    return Field(
        image=(isolated.sum(0) + noise).astype(np.float32),
        isolated=isolated.astype(np.float32),
        xy=XY,
        ellipse=ELLIPSE,
        magnitude=np.tile([[22.0, 21.0]], (3, 1)),
    )


@pytest.fixture(scope="module")
def data():
    psf = galsim.Gaussian(fwhm=4).drawImage(nx=25, ny=25, scale=1).array
    fields = tuple(make_field(seed) for seed in (0, 1))
    return FieldSet(fields, np.stack([psf, psf]), np.array([4.0, 4.0]), BANDS, 0.2)


class Planted:
    """Returns the truth times 1 + error, in another order; leaves out, or adds, what it is told."""

    name = "planted"

    def __init__(self, data, errors=(0.0, 0.0, 0.0), missing=(), spurious=0):
        self.data, self.errors, self.spurious = data, np.asarray(errors), spurious
        self.kept = [i for i in (2, 0, 1) if i not in missing]
        self.told = []

    def __call__(self, images, xy=None, **_):
        self.told.append(xy)
        field = next(f for f in self.data.fields if np.array_equal(f.image, images[0]))
        models = (field.isolated * (1 + self.errors)[:, None, None, None])[self.kept]
        place = np.concatenate([XY[self.kept] + 0.3, np.full((self.spurious, 2), 5.0)])
        empty = np.zeros((self.spurious, *models.shape[1:]))
        models = np.concatenate([models, empty]).astype(np.float32)
        n = np.array([len(models)])
        return Deblended(models[None], n, place[None].astype(np.float32), np.array(["high"]))


def test_a_perfect_deblender_has_no_error(data):
    deblender = Planted(data)
    (row,), (scores,) = evaluate_madness({"planted": deblender}, {}, data)
    assert row["centroids"] == GIVEN
    np.testing.assert_array_equal(deblender.told[0][0], XY)
    assert (row["n"], row["fields"], row["missed"], row["spurious"]) == (6, 2, 0, 0)
    for name in ("aperture_error_r", "flux_mape_r", "flux_mape", "flux_bias", "flux_nmad_r"):
        assert row[name] == pytest.approx(0, abs=1e-5), name
    for name in ("ssim_r", "cosine_r", "ssim_mean", "found"):
        assert row[name] == pytest.approx(1, abs=1e-6), name
    assert scores.models.shape == (3, 2, SIZE, SIZE)


def inside(field, galaxy):
    """Pixels inside an aperture, a part where its edge cuts them, by 15 x 15 points in each."""
    a, b, angle = ELLIPSE[galaxy]
    a, b = 2 * np.hypot(a, 2.0), 2 * np.hypot(b, 2.0)
    steps = (np.arange(15) - 7) / 15
    y, x = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    dx = x[..., None, None] + steps[:, None] - XY[galaxy, 0]
    dy = y[..., None, None] + steps - XY[galaxy, 1]
    u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    return ((u / a) ** 2 + (v / b) ** 2 <= 1).mean(axis=(2, 3))


def test_planted_errors_come_out(data):
    errors = np.array([0.2, -0.1, 0.05])
    (row,), (scores,) = evaluate_madness({}, {"planted": Planted(data, errors)}, data)
    assert row["centroids"] == DETECTED
    np.testing.assert_allclose(scores.total, np.tile(errors, (2, 1)), atol=1e-4)
    assert row["flux_mape_r"] == pytest.approx(np.abs(errors).mean(), abs=1e-4)
    assert row["flux_bias_r"] == pytest.approx(0.05, abs=1e-4)
    # The aperture sees only what is wrong with the neighbors' models.
    for row_, field in zip(scores.aperture, data.fields, strict=True):
        light = field.isolated[:, 1].astype(float)
        for i in range(3):
            window = inside(field, i)
            wrong = -sum(errors[j] * (light[j] * window).sum() for j in range(3) if j != i)
            rest = field.image[1] - light.sum(0) + light[i]
            assert row_[i] == pytest.approx(wrong / (rest * window).sum(), rel=0.02, abs=1e-3)
    assert np.abs(scores.aperture[:, :2]).min() > 0.01


def test_missing_and_spurious_count(data):
    deblender = Planted(data, missing=(1,), spurious=2)
    (row,), (scores,) = evaluate_madness({}, {"planted": deblender}, data)
    assert (row["missed"], row["spurious"]) == (2, 4)
    assert row["found"] == pytest.approx(2 / 3)
    assert row["flux_mape_r"] == pytest.approx(1 / 3, abs=1e-4)
    assert row["ssim_r"] == pytest.approx(2 / 3, abs=1e-4)
    assert row["cosine_r"] == pytest.approx(2 / 3, abs=1e-4)
    assert row["flux_bias"] == pytest.approx(0, abs=1e-4)
    # The galaxy beside keeps the light of the missing one, the far one does not.
    assert scores.aperture[0, 0] > 0.03
    assert scores.aperture[0, 1] == -1
    assert scores.aperture[0, 2] == pytest.approx(0, abs=2e-3)


def test_metrics_of_single_images():
    image = galsim.Gaussian(sigma=3, flux=100).drawImage(nx=48, ny=48, scale=1).array
    # The cosine of two Gaussians a distance d apart is exp(-d^2 / 4 sigma^2).
    shifted = (
        galsim.Gaussian(sigma=3, flux=20).drawImage(nx=48, ny=48, scale=1, offset=(4, 0)).array
    )
    assert cosine(shifted, image) == pytest.approx(np.exp(-16 / 36), rel=0.01)
    assert cosine(0 * image, image) == 0
    assert relative_ssim(0.3 * image, image) == pytest.approx(1, abs=1e-6)
    assert relative_ssim(0 * image, image) == 0
    # Inside radius r of a Gaussian is 1 - exp(-r^2 / 2 sigma^2) of its flux.
    inner = aperture_flux(image, np.array([23.5, 23.5]), np.array([3.0, 3.0, 0.0]))
    sigma2 = 9 + 1 / 12  # of the pixel too
    assert inner == pytest.approx(100 * (1 - np.exp(-36 / (2 * sigma2))), rel=0.005)


def test_tables_and_figures(data):
    told, own = {"a": Planted(data)}, {"b": Planted(data, missing=(1,))}
    rows, scores = evaluate_madness(told, own, data)
    text = to_markdown(field_tables(rows, ["A note."]))
    first, second = text.split("### Crowded fields, own detection")
    assert "MADNESS (Biswas et al. 2025) | –      | –        | 1.97%" in first
    assert "2.78%" in first
    assert "MADNESS" not in second
    assert "2 (33.3%)" in second
    assert second.strip().endswith("A note.")
    for png in (residual_figure(scores), field_figure(scores, data)):
        assert imread(io.BytesIO(png)).std() > 0.05


def test_who_is_told_the_centroids():
    told, own = load_deblenders(("joint", "sep"), {})
    assert "joint-true" in told
    assert sorted(own) == ["joint", "sep"]
    assert "held out of training, in v.npz" in origin("c.fits", "d/v.npz")
    assert "trained on most" in origin("c.fits", None)


def test_the_command_writes_everything(tmp_path):
    out = tmp_path / "scores"
    evaluation = run_evaluation(Request("madness", (), None, 1, str(out), seed=2))
    (row,) = json.loads((out / "metrics.json").read_text())
    assert (row["protocol"], row["deblender"], row["fields"]) == ("madness", "sep", 1)
    assert 0.5 < row["found"] <= 1
    assert (out / "tables.md").read_text() == evaluation.tables
    assert {"errors.png", "field.png"} <= {path.name for path in out.iterdir()}
    with pytest.raises(ConfigError, match="name both"):
        run_evaluation(Request("madness", (), "x.npz", 1, str(tmp_path / "other")))
