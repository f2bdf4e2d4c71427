"""A straight line through points, with the 95 % band of the line (Wang et al. 2022, Figs. 6, 7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import linregress
from scipy.stats import t as student

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """Least-squares line ``y = middle + slope * (x - pivot)``.

    Attributes
    ----------
    pivot
        Mean of the points' x, where the errors of `middle` and `slope` are independent.
    scatter
        Standard deviation of the points about the line.
    spread
        Sum of ``(x - pivot)²`` over the points.
    n
        Points.
    """

    slope: float
    middle: float
    pivot: float
    scatter: float
    spread: float
    n: int

    def __call__(self, x: Floats) -> Floats:
        """Return the line's y."""
        return np.asarray(self.middle + self.slope * (x - self.pivot))

    def half_band(self, x: Floats, level: float = 0.95) -> Floats:
        """Return half the width of the confidence band of the line at x (not of a new point)."""
        variance = 1 / self.n + (x - self.pivot) ** 2 / self.spread
        return np.asarray(self._quantile(level) * self.scatter * np.sqrt(variance))

    def half_slope(self, level: float = 0.95) -> float:
        """Return half the width of the slope's confidence interval."""
        return float(self._quantile(level) * self.scatter / np.sqrt(self.spread))

    def _quantile(self, level: float) -> float:
        return float(student.ppf((1 + level) / 2, self.n - 2))


def fit_line(x: Floats, y: Floats) -> Line | None:
    """Fit a line to the points that are finite; None with fewer than three or a single x."""
    good = np.isfinite(x) & np.isfinite(y)
    x, y = np.asarray(x)[good].astype(float), np.asarray(y)[good].astype(float)
    if len(x) < 3 or np.ptp(x) == 0:
        return None
    fit = linregress(x, y)
    pivot, spread = float(x.mean()), float(len(x) * x.var())
    scatter = float(fit.stderr * np.sqrt(spread))
    return Line(float(fit.slope), float(y.mean()), pivot, scatter, spread, len(x))


def fit_log_flux(flux: Floats, flux_true: Floats) -> Line | None:
    """Fit ``log10 F`` against ``log10 F_true``, since errors of flux are in proportion to it.

    A flux that is missing or not positive is left out.
    """
    positive = np.nan_to_num(flux, nan=-1.0) > 0
    return fit_line(np.log10(flux_true[positive]), np.log10(flux[positive]))
