"""How fitted shapes follow a shear of the sky, to first order, from curvature and priors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.blend import Blend
from raydeblend.fit.compiled.cache import part
from raydeblend.fit.compiled.prior import PARAMETERS, log_prior

Array = NDArray[np.float64]


@part()
def true_response(theta: Array, out: Array) -> None:
    """Write how the shapes of a source follow a shear γ of the sky, ``(9, 2)``.

    Disk and bulge each follow g → (g + γ) / (1 + γ* g), whose derivatives at γ = 0 are
    1 − g² and i (1 + g²); sizes and the index stay.
    """
    for i in range(PARAMETERS):
        out[i, 0] = out[i, 1] = 0.0
    for first in (2, 6):
        g1, g2 = theta[first], theta[first + 1]
        out[first, 0], out[first + 1, 1] = 1 - g1**2 + g2**2, 1 + g1**2 - g2**2
        out[first, 1] = out[first + 1, 0] = -2 * g1 * g2


@part()
def shear_response(blend: Blend, theta: Array, covariance: Array) -> Array:
    """Return the derivatives of theta by a shear of the whole sky, ``(K, 9, 2)``.

    The fit is where the likelihood, of curvature F, and the priors, of curvature P, balance.  If
    the truth moves by t, it moves by (F + P)⁻¹ F t = t − C P t, with C the `covariance`.

    Parameters
    ----------
    theta
        ``(K, 9)``, all of which were fitted.
    covariance
        ``(9 K, 9 K)``.
    """
    k = len(theta)
    response = np.zeros((k, PARAMETERS, 2))
    pull, stiffness = np.empty(PARAMETERS), np.empty((PARAMETERS, PARAMETERS))
    truth, held = np.empty((PARAMETERS, 2)), np.empty((PARAMETERS, 2))
    for source in range(k):
        log_prior(
            blend.prior, theta[source], blend.start[source], blend.compact[source], pull, stiffness
        )
        true_response(theta[source], truth)
        for i in range(PARAMETERS):
            for c in range(2):
                response[source, i, c] += truth[i, c]
                held[i, c] = 0.0
                for j in range(PARAMETERS):
                    held[i, c] += stiffness[i, j] * truth[j, c]
        first = PARAMETERS * source
        for other in range(k):
            for i in range(PARAMETERS):
                for j in range(PARAMETERS):
                    shared = covariance[PARAMETERS * other + i, first + j]
                    for c in range(2):
                        response[other, i, c] -= shared * held[j, c]
    return response
