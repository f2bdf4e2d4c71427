"""Photometry of the dominant galaxy, with and without the recovered positions (section 4.1).

Both are fits of exponential profiles to the low-resolution image (NGMIX where it is installed,
else our mixture fitter): one galaxy at the peak of that image, or two at the network's positions,
the second taken away by the joint fit.  The input is the magnitude in HST's image of the galaxy
alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.srgan.resolutions import matched, to_coarse
from raydeblend.evaluate.common.rows import Row, cell, measured
from raydeblend.evaluate.common.tables import Table
from raydeblend.instruments import FACTOR, FINE_SCALE
from raydeblend.measure.measure import choose_engine, measure_blends
from raydeblend.simulate.sharp_blends import SharpBlends, band_psfs, degradation, reference_band
from raydeblend.survey import NJY_ZERO_POINT
from raydeblend.tile import Blend, Box

Array = NDArray[np.float64]
Peaks = list[NDArray[np.float64]]

WITHOUT, WITH = "peak of the HSC image", "network's positions"
GP_POINTS = 300
"""Galaxies that the Gaussian process is fitted to; its cost grows with their cube."""
BINS = 8
PAPER_GAIN = "> 10"
"""Section 4.1: "more than an order of magnitude improvement in the flux measurement"."""
WORST = 3.0
"""Magnitudes: where a fit is further off, or gave no positive flux."""


@dataclass(frozen=True)
class Photometry:
    """Magnitudes of the dominant galaxies of blends that only the network resolves, ``(n,)``.

    Attributes
    ----------
    true
        In HST's image of the galaxy alone.
    without, given
        Measured in the low-resolution image; NaN where the fit failed.
    """

    true: Array
    without: Array
    given: Array

    def __len__(self) -> int:
        return len(self.true)

    def errors(self) -> dict[str, Array]:
        """Return measured less true, by method; failures are WORST off."""
        both = {WITHOUT: self.without, WITH: self.given}
        return {
            name: np.clip(np.nan_to_num(values - self.true, nan=WORST), -WORST, WORST)
            for name, values in both.items()
        }

    def rows(self, protocol: str, network: str) -> list[Row]:
        """Return bias, scatter and mean error of both, with limits; none of no galaxy."""
        if not len(self):
            return []
        return [
            {
                "protocol": protocol,
                "deblender": network,
                "photometry": name,
                "n_galaxies": 2,
                "galaxy": 1,
                "n": len(self),
                **measured("magnitude_bias", error, np.median),
                **measured("magnitude_rms", error, _rms),
                **measured("flux_error", np.abs(10 ** (-0.4 * error) - 1), np.median),
                **measured("flux_error_mean", np.abs(10 ** (-0.4 * error) - 1), np.mean),
            }
            for name, error in self.errors().items()
        ]


def photometry_table(photometry: Photometry, rows: Sequence[Row]) -> Table:
    """Return both measurements of the dominant galaxies, and how much one gains."""
    header = ["photometry at", "n", "median Δmag", "rms Δmag", "median abs. ΔF/F", "mean abs. ΔF/F"]
    names = ("magnitude_bias", "magnitude_rms", "flux_error", "flux_error_mean")
    chosen = [row for row in rows if "photometry" in row]
    lines = [
        [str(row["photometry"]), str(row["n"]), *(cell(row, name, ".3f") for name in names)]
        for row in chosen
    ]
    if len(chosen) == 2:
        gains = [abs(float(chosen[0][name]) / float(chosen[1][name])) for name in names]
        lines.append(["times better", str(len(photometry)), *(f"{gain:.1f}" for gain in gains)])
        lines.append(["Hemmati et al. 2022: times better", "–", *[PAPER_GAIN] * 4])
    return Table(header, lines)


def _rms(values: NDArray[np.floating], /, *, axis: int) -> Array:
    return np.asarray(np.sqrt(np.mean(values**2, axis=axis)))


def join_photometry(parts: Sequence[Photometry]) -> Photometry:
    """Put parts together."""
    names = [item.name for item in fields(Photometry)]
    return Photometry(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def measure_dominant(blends: SharpBlends, low: Peaks, recovered: Peaks) -> Photometry:
    """Measure the brighter galaxy of the blends with one peak in the low image and two recovered.

    Parameters
    ----------
    low, recovered
        Peaks of each blend in fine pixels.
    """
    rows = [
        i
        for i in range(len(blends))
        if len(low[i]) == 1 and (matched(recovered[i], blends.xy[i]) >= 0).all()
    ]
    band = reference_band(blends.bands)
    chosen = blends.low[rows][:, band : band + 1]
    true = _magnitudes(blends.isolated[rows, 0, band].sum(axis=(1, 2), dtype=np.float64), blends)
    if not rows:
        return Photometry(true, true.copy(), true.copy())
    psf = band_psfs((blends.bands[band],))
    without = _fluxes(chosen, [low[i] for i in rows], [np.zeros(1, int)] * len(rows), psf)
    which = [matched(recovered[i], blends.xy[i])[:1] for i in rows]
    given = _fluxes(chosen, [recovered[i] for i in rows], which, psf)
    return Photometry(true, _magnitudes(without, blends), _magnitudes(given, blends))


def _magnitudes(flux: Array, blends: SharpBlends) -> Array:
    sigma = degradation(blends.bands[reference_band(blends.bands)]).sky_sigma
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(NJY_ZERO_POINT - 2.5 * np.log10(np.where(flux > 0, flux, np.nan) * sigma))


def _fluxes(
    images: NDArray[np.float32],
    peaks: Peaks,
    which: Sequence[NDArray[np.intp]],
    psf: NDArray[np.float32],
) -> Array:
    """Return the fluxes ``(n,)`` of one source each, fitted with all at the given positions."""
    variance = np.ones_like(images)
    xy = [to_coarse(positions) for positions in peaks]
    scale = FACTOR * FINE_SCALE
    fitted = JointDeblender()(images, variance, psf=psf, pixel_scale=scale, xy=xy)
    blends, models, positions = [], [], []
    for i, image in enumerate(images):
        k = int(fitted.n_sources[i])
        blends.append(_blend(image, fitted.xy[i, :k]))
        models.append(fitted.models[i, :k])
        positions.append(fitted.xy[i, :k])
    results = measure_blends(blends, models, positions, list(psf), scale, _engine())
    # The fit orders its sources anew and may move them: the nearest to the position given.
    nearest = [
        int(np.argmin(np.hypot(*(at - given[int(k[0])]).T)))
        for at, given, k in zip(positions, xy, which, strict=True)
    ]
    return np.array([m.flux[k, 0] for m, k in zip(results, nearest, strict=True)])


def _blend(image: NDArray[np.float32], xy: NDArray[np.float32]) -> Blend:
    shape = image.shape
    return Blend(
        0, Box(0, 0, *shape[1:]), image, np.ones_like(image), np.zeros(shape, bool),
        np.ones(shape[1:], bool), xy,
    )  # fmt: skip


@cache
def _engine() -> str:
    return choose_engine("auto")


def fit_residual(magnitude: Array, error: Array, at: Array) -> tuple[Array, Array]:
    """Fit a Gaussian process to errors (Williams & Rasmussen 2006, section 2.2).

    The kernel is a constant times a radial basis function, as in the paper; the noise of the data
    is their scatter.

    Returns
    -------
    mean, sigma
        Predicted at magnitudes `at`, for noiseless data.
    """
    rows = np.random.default_rng(0).permutation(len(error))[:GP_POINTS]
    noise = max(float(np.std(error)), 1e-3)
    kernel = ConstantKernel(0.1, (1e-4, 1e2)) * RBF(2.0, (0.5, 20.0))
    process = GaussianProcessRegressor(kernel, alpha=noise**2, random_state=0)
    with warnings.catch_warnings():
        # A bias that is 0, or the same at all magnitudes, is at the bounds: that is all right.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(magnitude[rows, None], error[rows])
    mean, sigma = process.predict(at[:, None], return_std=True)
    return np.asarray(mean), np.asarray(sigma)


def binned_squares(magnitude: Array, error: Array) -> tuple[Array, Array, Array]:
    """Return the middles of magnitude bins, and median and 68th percentile of error² in them."""
    edges = np.quantile(magnitude, np.linspace(0, 1, BINS + 1))
    index = np.clip(np.searchsorted(edges, magnitude, side="right") - 1, 0, BINS - 1)
    used = [b for b in range(BINS) if (index == b).sum() > 2]
    squares = [error[index == b] ** 2 for b in used]
    middle = np.array([magnitude[index == b].mean() for b in used])
    median, most = (np.array([np.percentile(s, q) for s in squares]) for q in (50, 68))
    return middle, median, most


def fit_exponential(x: Array, y: Array) -> Callable[[Array], Array] | None:
    """Return y = a exp(b (x − x₀)) + c fitted to points; None where no such curve fits."""
    if len(x) < 4:
        return None
    origin = float(x.mean())

    def curve(x: Array, a: float, b: float, c: float) -> Array:
        return a * np.exp(b * (x - origin)) + c

    start = (max(float(np.ptp(y)), 1e-6) / 3, 0.5, max(float(y.min()), 0.0))
    bounds = ([0, -5, 0], [np.inf, 5, np.inf])
    try:
        best, _ = curve_fit(curve, x, y, start, bounds=bounds)
    except RuntimeError:
        return None
    return lambda at: curve(at, *best)
