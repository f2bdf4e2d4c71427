"""The priors of both photometry engines, so that their results can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.parameters import CONCENTRATION
from raydeblend.fit.profiles import Profile


@dataclass(frozen=True)
class Priors:
    """Independent priors on position, ellipticity and size; fluxes are free.

    Attributes
    ----------
    center
        Standard deviation, in pixels, of each coordinate about the deblended position.  Peaks
        of sources at S/N = 5 in 0.7" seeing scatter by about this much.
    shape
        Width of p(g) ∝ (1 − g²)² exp(−g²/2σ²) (Bernstein & Armstrong 2014, eq. 24).  Twice
        the 0.3 that they take for deep samples, since a prior pulls shapes towards round: at S/N
        of 50 to 300 the response to shear falls by 0.8 % with 0.3 and by 0.3 % with 0.6
        (``python -m benchmarks.photometry``).
    radius
        Median half-light radius in arcsec; galaxies of i = 22 to 25 have 0.2" to 0.5"
        (Leauthaud et al. 2007, ApJS 172, 219).
    log_size
        Standard deviation of ln T: 1.4 is a factor of two in radius, weaker than the scatter
        of sizes at a given magnitude.
    concentration, concentration_scatter
        Mean and standard deviation of that of ``bdf``: wide enough for a flat core and for a pure
        bulge, narrow enough to decide where the pixels cannot.  Fluxes of faint galaxies on
        simulated tiles are least biased so; with half a bulge for a mean they are too
        high by 0.5 of their errors.
    """

    center: float = 0.5
    shape: float = 0.6
    radius: float = 0.35
    log_size: float = 1.4
    concentration: float = 0.1
    concentration_scatter: float = 0.5

    def log_t(self, profile: Profile) -> float:
        """Return the prior's mean of ln T (T in arcsec²) for a profile."""
        return float(np.log(profile.t_per_radius2 * self.radius**2))

    def mean(self, profile: Profile) -> NDArray[np.float64]:
        """Return the means of (x, y, g1, g2, ln T) and of the concentration, if there is one."""
        means = [0.0, 0.0, 0.0, 0.0, self.log_t(profile), self.concentration]
        return np.array(means if profile.has_concentration else means[:CONCENTRATION])

    def precision(self, profile: Profile) -> NDArray[np.float64]:
        """Return the inverse variances of the same."""
        widths = [self.center, self.center, self.shape, self.shape, self.log_size]
        more = [self.concentration_scatter] if profile.has_concentration else []
        return np.array(widths + more) ** -2.0


DEFAULT_PRIORS = Priors()
