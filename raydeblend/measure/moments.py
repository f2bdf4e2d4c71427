"""Adaptive second moments: a Gaussian weight that matches the light it measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEPS = 30
START = 2.0
"""Width in pixels of the first weight."""


def adaptive_moments(images: Array, xy: Array) -> Array:
    """Return the covariances of the Gaussians that match each image best.

    The weight's own covariance W is taken out of the weighted moments M by (M⁻¹ − W⁻¹)⁻¹, which
    is exact for a Gaussian, until both agree (Bernstein & Jarvis 2002, section 3.1).

    Parameters
    ----------
    images
        ``(n, y, x)``.
    xy
        ``(n, 2)`` where the light is, x and y in pixels; it is centered from there.

    Returns
    -------
    ``(n, 2, 2)`` in pixels², axes (x, y); NaN where there is no such Gaussian.
    """
    return np.array([_moments(image, at) for image, at in zip(images, xy, strict=True)]).reshape(
        -1, 2, 2
    )


def _moments(image: Array, at: Array) -> Array:
    none = np.full((2, 2), np.nan)
    if not (np.isfinite(image).all() and np.isfinite(at).all()):
        return none
    y, x = np.indices(image.shape).reshape(2, -1).astype(float)
    light = image.ravel()
    weight = START**2 * np.eye(2)
    for _ in range(STEPS):
        offset = np.stack([x - at[0], y - at[1]])
        # The light seen through the weight.
        seen = light * np.exp(
            -0.5 * np.einsum("ip,ij,jp->p", offset, np.linalg.inv(weight), offset)
        )
        total = seen.sum()
        if not total > 0:
            return none
        moved = offset @ seen / total
        moments = (offset * seen) @ offset.T / total - np.outer(moved, moved)
        at = at + np.clip(2 * moved, -1, 1)
        matched = _without(moments, weight)
        if not _is_shape(matched):
            return none
        weight, last = matched, weight
        if np.abs(weight - last).max() < 1e-6 * weight.max():
            break
    return weight


def _without(moments: Array, weight: Array) -> Array:
    """Return the covariance whose product with the weight has these moments."""
    if not _is_shape(moments):
        return np.full((2, 2), np.nan)
    excess = np.linalg.inv(moments) - np.linalg.inv(weight)
    if not _is_shape(excess):
        # Broader than the weight can tell: widen it.
        return 2 * weight
    return np.asarray(np.linalg.inv(excess))


def _is_shape(covariance: Array) -> bool:
    return bool(
        np.isfinite(covariance).all()
        and covariance[0, 0] > 1e-3
        and covariance[0, 0] < 1e6
        and np.linalg.det(covariance) > 1e-9 * covariance[0, 0] ** 2
    )


def shape_of(covariance: Array) -> tuple[float, float, float]:
    """Return T = <x²> + <y²> and the reduced shear (g1, g2) of a covariance ``(2, 2)``.

    NaN where the covariance is not one, as a galaxy's less than the PSF's may not be.
    """
    if not _is_shape(covariance):
        return np.nan, np.nan, np.nan
    size = covariance[0, 0] + covariance[1, 1]
    e = complex(covariance[0, 0] - covariance[1, 1], 2 * covariance[0, 1]) / size
    g = e / (1 + np.sqrt(1 - abs(e) ** 2))
    return float(size), g.real, g.imag
