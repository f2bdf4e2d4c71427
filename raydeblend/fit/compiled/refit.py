"""All sources of a blend at once, by a few damped Gauss–Newton steps; see `fit.blend`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.cache import entry, part
from raydeblend.fit.compiled.galaxy import Family
from raydeblend.fit.compiled.sources import (
    Model,
    Pixels,
    damped_step,
    evaluate,
    make_model,
    make_work,
    move,
    write_covariances,
)

Array = NDArray[np.float64]


class Refitted(NamedTuple):
    """Sources of a blend: theta ``(K, q)``, fluxes and norms Σ w m² ``(b, K)``, and χ².

    Covariances are ``(K, q, q)`` and, between bands, ``(b, b, K)``.
    """

    theta: Array
    theta_cov: Array
    flux: Array
    flux_cov: Array
    norm: Array
    chi2: float


@entry
def refit(
    family: Family, pixels: Pixels, theta: Array, rounds: int, damping: float, ridge: float
) -> Refitted:
    """Improve theta ``(K, q)`` in at most `rounds` damped steps.

    The first step that does not lower the objective is not taken, and ends the fit.
    """
    work = make_work(family, pixels)
    here, trial = make_model(family, pixels), make_model(family, pixels)
    step = np.empty((len(here.gradient), 1))
    trial.theta[:] = theta
    # The model is evaluated at one place in the code: there is half as much to compile.
    for number in range(rounds + 1):
        evaluate(family, pixels, ridge, work, trial)
        if number and not trial.value[0] < here.value[0]:
            break
        here, trial = trial, here
        damped_step(here, damping, step)
        move(here, step, trial.theta)
    (k, q), bands = here.theta.shape, len(here.flux)
    theta_cov, flux_cov = np.empty((k, q, q)), np.empty((bands, bands, k))
    write_covariances(here, theta_cov, flux_cov)
    return Refitted(here.theta, theta_cov, here.flux, flux_cov, _norms(here), here.value[1])


@part()
def _norms(model: Model) -> Array:
    out = np.empty_like(model.flux)
    for band in range(len(out)):
        for source in range(out.shape[1]):
            out[band, source] = model.normal[band, source, source]
    return out
