"""Our Gaussian-mixture fitter for single sources, by variable projection.

The Gaussians are in `profile_model`, the sums and the solver, Levenberg–Marquardt, are compiled
(`compiled.stamp_fit`).  Here is what makes it fast: each stamp is first fitted with its pixels
summed 3×3, a ninth of the work, and then, from that solution, on the pixels themselves, in the
window that holds the light.  This second fit iterates to the same convergence as one without the
first, which can cost time but not accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.stamp_fit import (
    Cutouts,
    Solutions,
    Stop,
    fit_summed,
    fit_windows,
)
from raydeblend.fit.compiled.start_photometry import prepare_photometry
from raydeblend.fit.config import PROFILE_FIT
from raydeblend.fit.half_light import bulge_fraction
from raydeblend.fit.parameters import G1, G2, LOG_T, POSITION
from raydeblend.fit.profile_model import make_family, size_class
from raydeblend.fit.profiles import profile
from raydeblend.fit.psf import PsfMixture
from raydeblend.fit.result import ROW_SHAPES, Measurements, errors_of
from raydeblend.fit.single_priors import DEFAULT_PRIORS, Priors
from raydeblend.fit.stamps import Stamps
from raydeblend.flags import Flag

Array = NDArray[np.float64]

CONFIG = PROFILE_FIT.single


def fit_shapes(
    stamps: Stamps,
    psf: Sequence[PsfMixture],
    pixel_scale: float,
    model: str = "exp",
    priors: Priors = DEFAULT_PRIORS,
) -> tuple[Measurements, Array]:
    """Fit every stamp; a stamp that cannot be fitted gets NaN and a flag, never an exception.

    Parameters
    ----------
    stamps
        n > 0 stamps of one size.
    psf
        One mixture per band.
    pixel_scale
        Arcsec per pixel.
    model
        One of `profiles.MODELS`.

    Returns
    -------
    The measurements, and theta ``(n, q)`` where each fit ended, usable or not.
    """
    prepare_photometry()
    found = solve(stamps, psf, pixel_scale, model, priors)
    return _measurements(found, (stamps.weight > 0).sum((2, 3)), stamps.unit, model), found.theta


def solve(
    stamps: Stamps, psf: Sequence[PsfMixture], pixel_scale: float, model: str, priors: Priors
) -> Solutions:
    """Return the solution of each stamp, fluxes in units of the noise."""
    shape, cutouts = profile(model), Cutouts(stamps.image, stamps.weight, stamps.offset)
    n, q = len(stamps.offset), len(priors.mean(shape))
    # Galaxies of the first fit are rarely larger than this, and those that are lose little.
    usual = 0.5 * float(np.exp(priors.log_t(shape) + priors.log_size)) / pixel_scale**2
    # The model is taken at the middle of a square, with the square's own second moment: exact to
    # second order where weights are equal.
    moment = (CONFIG.bin_side**2 - 1) / 12
    start, sides = np.empty((n, q)), np.empty(n, dtype=np.int64)
    out = _no_solutions(n, stamps.image.shape[1], q)
    fit_summed(
        cutouts,
        make_family(shape, psf, pixel_scale, priors, usual, moment),
        first_sizes(stamps.size * pixel_scale, priors.radius),
        CONFIG.bin_side,
        Stop(CONFIG.coarse_tolerance, CONFIG.rounding, CONFIG.coarse_steps),
        np.array(CONFIG.windows, dtype=np.int64),
        CONFIG.outside,
        start,
        sides,
        out.evaluations,
    )
    number, half_t = size_class(start[:, LOG_T], pixel_scale)
    for size in np.unique(number):
        rows = np.flatnonzero(number == size)
        family = make_family(shape, psf, pixel_scale, priors, float(half_t[rows[0]]))
        stop = Stop(CONFIG.tolerance, CONFIG.rounding, CONFIG.max_steps)
        fit_windows(cutouts, rows, family, start, sides, CONFIG.growth, stop, out)
    return out


def first_sizes(side: float, radius: float) -> Array:
    """Return the starts in ln T for stamps of a side and a usual radius, both in arcsec."""
    sizes = np.array(CONFIG.first_sizes)
    return sizes[radius * np.exp(sizes / 2) <= max(CONFIG.first_size_fraction * side, radius)]


def _no_solutions(n: int, bands: int, q: int) -> Solutions:
    return Solutions(
        theta=np.full((n, q), np.nan),
        theta_cov=np.full((n, q, q), np.nan),
        flux=np.full((n, bands), np.nan),
        flux_cov=np.full((n, bands, bands), np.nan),
        norm=np.full((n, bands), np.nan),
        chi2=np.full(n, np.inf),
        converged=np.zeros(n, dtype=bool),
        evaluations=np.zeros(n, dtype=np.int64),
    )


def _measurements(
    found: Solutions, used: NDArray[np.int_], unit: Array, model: str
) -> Measurements:
    """Return the values of what could be fitted, from pixels `used` ``(n, b)``."""
    measured = used > 0
    freedom = used.sum(1) - found.theta.shape[1] - measured.sum(1)
    size, error = np.exp(found.theta[:, LOG_T]), errors_of(found.theta_cov)
    known = np.where(measured, unit, np.nan)
    flux_cov = found.flux_cov * known[:, :, None] * known[:, None]
    good = measured.any(1) & (freedom > 0) & np.isfinite(found.chi2)
    good &= np.isfinite(found.theta).all(1) & np.isfinite(error).all(1)
    known = np.where(measured, unit, np.nan)
    flux_cov = found.flux_cov * known[:, :, None] * known[:, None]
    values = {
        "flux": found.flux * known,
        "flux_err": errors_of(flux_cov),
        "flux_cov": flux_cov,
        "snr": np.sqrt((np.where(measured, found.norm * found.flux**2, 0.0)).sum(1)),
        "r50": np.full_like(size, np.nan),
        "bulge_fraction": np.where(measured, bulge_fraction(found.theta), np.nan),
        "T": size,
        "T_err": size * error[:, LOG_T],
        "g1": found.theta[:, G1],
        "g2": found.theta[:, G2],
        "g1_err": error[:, G1],
        "g2_err": error[:, G2],
        "response": np.full((len(size), *ROW_SHAPES["response"]), np.nan),
        "profile": np.full((len(size), *ROW_SHAPES["profile"]), np.nan),
        "chi2": found.chi2 / np.maximum(freedom, 1),
        "shift": found.theta[:, POSITION],
        "position_cov": found.theta_cov[:, POSITION, POSITION],
    }
    arrays = {name: value.copy() for name, value in values.items()}
    for array in arrays.values():
        array[~good] = np.nan
    flags = np.where(good, 0, Flag.FIT_FAILED) | np.where(measured.all(1), 0, Flag.BAND_MISSING)
    flags |= np.where(found.converged | ~good, 0, Flag.FIT_NOT_CONVERGED)
    return Measurements(**arrays, flags=flags.astype(np.int32), model=model, photometry="mixture")
