"""The fit of one blend, and what is asked for before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import COMPONENTS, PARAMETERS, POSITION
from raydeblend.tile import BoolArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BlendFit:
    """The sources of one blend as fitted.

    Attributes
    ----------
    theta, theta_cov
        ``(k, 9)``, see `raydeblend.fit.parameters`, and the covariances ``(k, 9, 9)``.
    flux, flux_cov
        ``(bands, k, 2)`` of disk and bulge, and the covariances of their totals between bands,
        ``(bands, bands, k)``.
    response
        ``(k, 9, 2)`` derivatives of theta by a shear (γ1, γ2) of the whole sky, with what the
        priors hold back.
    rest
        ``(k, 9)`` what theta lacks of the minimum: the fit ends before a step that promises
        little.  0 where it has not converged.
    compact
        ``(k,)`` sources that were found as points, see `BulgeDiskPriors`.
    place
        ``(bands, k)`` with which of its stamp's PSFs each source was fitted.
    prior
        ``(k,)`` −ln prior of each source.
    chi2
        χ² of the whole.
    work
        What it cost, with the trials so far: evaluations of the model times sources, bands and
        samples.  The same on any machine, unlike seconds.
    limited
        Whether the limit of the work ended it: before all sources were fitted if there are none,
        else in the search for more.
    """

    theta: Array
    theta_cov: Array
    flux: Array
    flux_cov: Array
    response: Array
    rest: Array
    compact: BoolArray
    place: NDArray[np.int64]
    prior: Array
    chi2: float
    converged: bool
    work: float = 0.0
    limited: bool = False

    @property
    def xy(self) -> Array:
        """Positions ``(k, 2)``."""
        return self.theta[:, POSITION]

    @property
    def objective(self) -> float:
        """χ²/2 − ln prior."""
        return 0.5 * self.chi2 + float(self.prior.sum())

    @property
    def total(self) -> Array:
        """Flux of each source, ``(bands, k)``."""
        return np.asarray(self.flux.sum(-1))

    @property
    def flux_err(self) -> Array:
        """Error of each source's flux, ``(bands, k)``."""
        variance = np.diagonal(self.flux_cov, axis1=0, axis2=1).T
        return np.asarray(np.sqrt(np.maximum(variance, 0)))

    @property
    def snr(self) -> Array:
        """Flux over error of each source, all bands together, ``(k,)``."""
        error = np.where(self.flux_err > 0, self.flux_err, np.inf)
        return np.asarray(np.sqrt(((self.total / error) ** 2).sum(0)))

    def take(self, index: NDArray[np.intp]) -> BlendFit:
        """Return some of the sources; χ² is not theirs."""
        return replace(
            self,
            theta=self.theta[index],
            theta_cov=self.theta_cov[index],
            flux=self.flux[:, index],
            flux_cov=self.flux_cov[..., index],
            response=self.response[index],
            rest=self.rest[index],
            compact=self.compact[index],
            place=self.place[:, index],
            prior=self.prior[index],
        )

    def without(self, source: np.intp | int) -> BlendFit:
        """Return all sources but one."""
        return self.take(np.delete(np.arange(len(self.theta)), source))

    def add(self, theta: Array, compact: bool) -> BlendFit:
        """Return the fit with more sources ``(m, 9)``, as yet without light."""
        m, bands = len(theta), len(self.flux)
        unknown = np.zeros((m, PARAMETERS, PARAMETERS))
        return replace(
            self,
            theta=np.concatenate([self.theta, theta]),
            theta_cov=np.concatenate([self.theta_cov, unknown]),
            flux=np.concatenate([self.flux, np.zeros((bands, m, COMPONENTS))], 1),
            flux_cov=np.concatenate([self.flux_cov, np.zeros((bands, bands, m))], 2),
            response=np.concatenate([self.response, np.zeros((m, PARAMETERS, 2))]),
            rest=np.concatenate([self.rest, np.zeros((m, PARAMETERS))]),
            compact=np.concatenate([self.compact, np.full(m, compact)]),
            place=np.concatenate([self.place, np.zeros((bands, m), dtype=np.int64)], 1),
            prior=np.concatenate([self.prior, np.zeros(m)]),
        )


def without_sources(stamp: Stamp) -> BlendFit:
    """Return the fit of no source."""
    bands = len(stamp.image)
    return BlendFit(
        theta=np.zeros((0, PARAMETERS)),
        theta_cov=np.zeros((0, PARAMETERS, PARAMETERS)),
        flux=np.zeros((bands, 0, COMPONENTS)),
        flux_cov=np.zeros((bands, bands, 0)),
        response=np.zeros((0, PARAMETERS, 2)),
        rest=np.zeros((0, PARAMETERS)),
        compact=np.zeros(0, dtype=bool),
        place=np.zeros((bands, 0), dtype=np.int64),
        prior=np.zeros(0),
        chi2=stamp.chi2_of_sky,
        converged=True,
    )


def join(fits: Sequence[BlendFit]) -> BlendFit:
    """Return the sources of fits of different ones, at least one, as one; χ² is not theirs."""
    return replace(
        fits[0],
        theta=np.concatenate([fit.theta for fit in fits]),
        theta_cov=np.concatenate([fit.theta_cov for fit in fits]),
        flux=np.concatenate([fit.flux for fit in fits], 1),
        flux_cov=np.concatenate([fit.flux_cov for fit in fits], 2),
        response=np.concatenate([fit.response for fit in fits]),
        rest=np.concatenate([fit.rest for fit in fits]),
        compact=np.concatenate([fit.compact for fit in fits]),
        place=np.concatenate([fit.place for fit in fits], 1),
        prior=np.concatenate([fit.prior for fit in fits]),
        converged=all(fit.converged for fit in fits),
        work=0.0,
    )


def better_of(fit: BlendFit, trial: BlendFit, better: bool) -> BlendFit:
    """Return the trial if it is better, else the fit, with the work of both."""
    return replace(trial if better else fit, work=fit.work + trial.work)


@dataclass(frozen=True)
class FitRequest:
    """A blend to fit.

    Attributes
    ----------
    start
        ``(k, 2)`` expected positions.
    compact
        ``(k,)`` sources that were found as points.
    base
        An earlier fit to start from.
    goal
        Objective to reach; a fit that is unlikely to is stopped.
    """

    stamp: Stamp
    start: Array
    compact: BoolArray
    base: BlendFit | None = None
    goal: float = -np.inf

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """With which of the stamp's PSFs ``(bands, k)`` the sources are fitted."""
        return self.stamp.place(self.start)

    @property
    def hidden(self) -> BoolArray:
        """Sources ``(bands, k)`` that a band hardly shows, as far as is known before the fit."""
        return self.stamp.hidden(self.start if self.base is None else self.base.theta)

    @property
    def values(self) -> int:
        """What one evaluation of the model costs: sources times bands times samples."""
        return len(self.start) * len(self.stamp.image) * len(self.stamp.starts)

    @property
    def sample_goal(self) -> float:
        """The goal for χ² of the samples, which the scatter of the pixels is no part of."""
        return self.goal - 0.5 * self.stamp.scatter


def refit(stamp: Stamp, base: BlendFit, goal: float = -np.inf) -> FitRequest:
    """Return the request of a fit that starts from another; see `FitRequest`."""
    return FitRequest(stamp, base.xy.copy(), base.compact, base, goal)
