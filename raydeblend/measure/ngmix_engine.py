"""Photometry by ngmix (Sheldon 2014, MNRAS 444, L25), the reference engine.

ngmix is imported when it is first used: it is on conda-forge, not on PyPI.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.profiles import NGMIX_T_SCALE, profile
from raydeblend.fit.psf import PsfMixture
from raydeblend.fit.result import Measurements, concatenate, not_attempted
from raydeblend.fit.single_priors import DEFAULT_PRIORS, Priors
from raydeblend.fit.stamps import Stamps
from raydeblend.flags import Flag

TRIES = 3


class _LogSizePrior:
    """A Gaussian in ln T, with the maximum 1 that ngmix's priors must have."""

    bounds = None

    def __init__(self, mean: float, sigma: float, rng: Any) -> None:
        self.mean = mean
        self.sigma = sigma
        self.rng = rng

    def has_bounds(self) -> bool:
        return False

    def get_lnprob_scalar(self, size: float) -> float:
        from ngmix.gexceptions import GMixRangeError

        if size <= 0:
            raise GMixRangeError("T must be positive")
        return float(-0.5 * ((np.log(size) - self.mean) / self.sigma) ** 2)

    def get_fdiff(self, size: float) -> float:
        from ngmix.gexceptions import GMixRangeError

        if size <= 0:
            raise GMixRangeError("T must be positive")
        return float((np.log(size) - self.mean) / self.sigma)

    def sample(self, n: int | None = None) -> Any:
        return np.exp(self.rng.normal(self.mean, self.sigma, n))


def fit_ngmix(
    stamps: Stamps,
    psf: Sequence[PsfMixture],
    pixel_scale: float,
    model: str = "exp",
    seed: int = 0,
    priors: Priors = DEFAULT_PRIORS,
) -> Measurements:
    """Fit every stamp with ngmix; a stamp that cannot be fitted gets NaN and a flag.

    The random guesses of each source start from `seed` anew, so that its result does not depend
    on the others.

    Parameters
    ----------
    stamps
        n > 0 stamps.
    psf
        One mixture per band.  Ours, by least squares: on HSC-like PSF stamps ngmix's EM biases
        fluxes by −0.6 % where these give −0.15 %, and it fails on negative wings.
    """
    psf_observations = [_psf_observation(mixture, pixel_scale) for mixture in psf]
    return concatenate(
        [
            _fit_one(
                stamps.take(slice(i, i + 1)), psf_observations, pixel_scale, model, seed, priors
            )
            for i in range(len(stamps.offset))
        ]
    )


def _psf_observation(psf: PsfMixture, pixel_scale: float) -> Any:
    """Return an ngmix observation that carries the PSF's mixture; its pixels are not used."""
    import ngmix

    jacobian = ngmix.DiagonalJacobian(row=0, col=0, scale=pixel_scale)
    return ngmix.Observation(np.ones((1, 1)), jacobian=jacobian, gmix=_to_ngmix(psf, pixel_scale))


def _to_ngmix(psf: PsfMixture, pixel_scale: float) -> Any:
    import ngmix

    cov = psf.covariances * pixel_scale**2
    zero = np.zeros(len(cov))
    # ngmix's order is row, column: y before x.
    columns = [psf.weights, zero, zero, cov[:, 1, 1], cov[:, 0, 1], cov[:, 0, 0]]
    return ngmix.GMix(pars=np.stack(columns, 1).ravel())


def _fit_one(
    stamp: Stamps,
    psf: Sequence[Any],
    pixel_scale: float,
    model: str,
    seed: int,
    priors: Priors,
) -> Measurements:
    """Fit one source in the bands that have weight."""
    measured = (stamp.weight[0] > 0).any((1, 2))
    out = not_attempted(1, len(measured), model, "ngmix")
    flags = 0 if measured.all() else int(Flag.BAND_MISSING)
    result = _run(stamp, psf, measured, pixel_scale, model, seed, priors) if measured.any() else {}
    if result.get("flags", 1) == 0:
        _write(out, result, measured, stamp.unit[0], model, pixel_scale)
    else:
        flags |= int(Flag.FIT_FAILED)
    out.flags[:] = flags
    return out


def _run(
    stamp: Stamps,
    psf: Sequence[Any],
    measured: NDArray[np.bool_],
    pixel_scale: float,
    model: str,
    seed: int,
    priors: Priors,
) -> Any:
    """Return ngmix's result; an empty one where ngmix gives up with one of its own errors."""
    import ngmix

    rng = np.random.RandomState(seed)
    observations = _observations(stamp, psf, measured, pixel_scale)
    prior = _joint_prior(rng, int(measured.sum()), pixel_scale, model, priors)
    fitter = ngmix.fitting.Fitter(model=model, prior=prior)
    size = _guess_size(observations, psf, measured, pixel_scale)
    if model == "bdf":
        guesser = ngmix.guessers.BDFPSFFluxGuesser(T=size, prior=prior)
    else:
        guesser = ngmix.guessers.TPSFFluxGuesser(rng, T=size)
    try:
        return ngmix.runners.run_fitter(observations, fitter, guesser=guesser, ntry=TRIES)
    except (ngmix.gexceptions.GMixRangeError, ngmix.gexceptions.PSFFluxFailure):
        return {}


def _observations(
    stamp: Stamps, psf: Sequence[Any], measured: NDArray[np.bool_], pixel_scale: float
) -> Any:
    import ngmix

    x, y = stamp.offset[0] + stamp.size // 2
    jacobian = ngmix.DiagonalJacobian(row=y, col=x, scale=pixel_scale)
    bands = ngmix.MultiBandObsList()
    for band in np.flatnonzero(measured).tolist():
        observation = ngmix.Observation(
            stamp.image[0, band], weight=stamp.weight[0, band], jacobian=jacobian, psf=psf[band]
        )
        exposures = ngmix.ObsList()
        exposures.append(observation)
        bands.append(exposures)
    return bands


def _joint_prior(rng: Any, bands: int, pixel_scale: float, model: str, priors: Priors) -> Any:
    from ngmix import priors as ngmix_priors
    from ngmix.joint_prior import PriorBDFSep, PriorSimpleSep

    sigma = priors.center * pixel_scale
    log_t = priors.log_t(profile(model)) - np.log(NGMIX_T_SCALE[model])
    shape = (
        ngmix_priors.CenPrior(0.0, 0.0, sigma, sigma, rng=rng),
        ngmix_priors.GPriorBA(priors.shape, rng=rng),
        _LogSizePrior(log_t, priors.log_size, rng),
    )
    fluxes = [ngmix_priors.FlatPrior(-1e15, 1e15, rng=rng)] * bands
    if model == "bdf":
        fraction = ngmix_priors.Normal(priors.concentration, priors.concentration_scatter, rng=rng)
        return PriorBDFSep(*shape, fraction, fluxes)
    return PriorSimpleSep(*shape, fluxes)


def _guess_size(
    observations: Any, psf: Sequence[Any], measured: NDArray[np.bool_], pixel_scale: float
) -> float:
    """Return T in arcsec² from Gaussian-weighted moments, less that of the PSF."""
    import ngmix

    moments = ngmix.gaussmom.GaussMom(fwhm=8 * pixel_scale)
    sizes = [moments.go(band[0]) for band in observations]
    good = [float(size["T"]) for size in sizes if size["flags"] == 0 and np.isfinite(size["T"])]
    seeing = np.mean([psf[band].gmix.get_T() for band in np.flatnonzero(measured).tolist()])
    return float(np.clip(np.median(good) - seeing if good else seeing, 0.1 * seeing, 10 * seeing))


def _write(
    out: Measurements,
    result: Any,
    measured: NDArray[np.bool_],
    unit: NDArray[np.float64],
    model: str,
    pixel_scale: float,
) -> None:
    """Fill row 0 of `out`, in place."""
    t = NGMIX_T_SCALE[model]
    # The inverse curvature itself: ngmix's pars_cov is scaled by the reduced χ², which makes
    # errors smaller where the noise is correlated and should make them larger.
    covariance = result["pars_cov0"]
    error = np.sqrt(np.diag(covariance))
    pars = result["pars"]
    bands, known = slice(len(pars) - int(measured.sum()), None), unit[measured]
    out.flux[0, measured] = pars[bands] * known
    out.flux_err[0, measured] = error[bands] * known
    out.flux_cov[0][np.ix_(measured, measured)] = covariance[bands, bands] * np.outer(known, known)
    if model == "bdf":
        out.bulge_fraction[0, measured] = np.clip(pars[5], 0, 1)
    # ngmix's centers are (row, column) in arcsec.
    out.shift[0] = pars[1::-1] / pixel_scale
    out.position_cov[0] = covariance[1::-1, 1::-1] / pixel_scale**2
    out.snr[0] = result["s2n"]
    out.T[0], out.T_err[0] = pars[4] * t, error[4] * t
    out.g1[0], out.g2[0] = pars[2:4]
    out.g1_err[0], out.g2_err[0] = error[2:4]
    out.chi2[0] = result["chi2per"]
