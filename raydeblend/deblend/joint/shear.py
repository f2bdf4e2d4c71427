"""How the shapes that are published respond to a shear of the sky."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import ShearConfig
from raydeblend.fit.parameters import SHAPES

Array = NDArray[np.float64]


def shear_response(fit: BlendFit, shares: Array, by_theta: Array, config: ShearConfig) -> Array:
    """Return R11, R22 and R12 of each source, ``(k, 3)``: ∂g1/∂γ1, ∂g2/∂γ2, and of g1, g2 crossed.

    What the priors hold back of a shear is known from the curvature (`BlendFit.response`).  Beyond
    that, to second order in the noise, a galaxy of uncertain size answers less: a shear moves its
    second moments by the true radius squared, and the model takes them for those of the fitted.

    Parameters
    ----------
    shares
        ``(k, 2)`` parts of disk and bulge in the published shape.
    by_theta
        ``(k, 9)`` derivatives of ln r50 by theta.
    """
    response = sum(
        share[:, None, None] * fit.response[:, columns[:2]]
        for columns, share in zip(SHAPES, shares.T, strict=True)
    )
    variance = np.einsum("ki,kij,kj->k", by_theta, fit.theta_cov, by_theta)
    response = response * np.exp(-config.by_size_variance * variance)[:, None, None]
    crossed = 0.5 * (response[:, 0, 1] + response[:, 1, 0])
    return np.stack([response[:, 0, 0], response[:, 1, 1], crossed], axis=1)
