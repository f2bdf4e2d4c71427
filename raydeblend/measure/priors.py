"""The priors of both photometry engines, so that their results can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raydeblend.measure.profiles import Profile


@dataclass(frozen=True)
class Priors:
    """Independent priors on position, ellipticity and size; fluxes are free.

    Attributes
    ----------
    centre
        Standard deviation, in pixels, of each coordinate about the deblended position.  Peaks
        of sources at S/N = 5 in 0.7" seeing scatter by about this much.
    shape
        Width of p(g) ∝ (1 − g²)² exp(−g²/2σ²) (Bernstein & Armstrong 2014, eq. 24), whose value
        for deep galaxy samples they take as 0.3.
    radius
        Median half-light radius in arcsec; galaxies of i = 22 to 25 have 0.2" to 0.5"
        (Leauthaud et al. 2007, ApJS 172, 219).
    log_size
        Standard deviation of ln T: 1.4 is a factor of two in radius, weaker than the scatter
        of sizes at a given magnitude.
    """

    centre: float = 0.5
    shape: float = 0.3
    radius: float = 0.35
    log_size: float = 1.4

    def log_t(self, profile: Profile) -> float:
        """Return the prior's mean of ln T (T in arcsec²) for a profile."""
        return float(np.log(profile.t_per_radius2 * self.radius**2))


DEFAULT_PRIORS = Priors()
