"""Galaxies of Gaussians in plain NumPy and float64, to hold the compiled fit against."""

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.galaxy import SOFTENING, Family

Array = NDArray[np.float64]


def draw(family: Family, theta: Array, center: Array, side: int) -> Array:
    """Draw a galaxy of unit flux ``(b, side, side)`` at a center (x, y) plus theta's position."""
    y, x = np.indices((side, side)).astype(float)
    offset = np.stack([x - center[0] - theta[0], y - center[1] - theta[1]], -1)
    g = complex(theta[2], theta[3])
    e = 2 * g / (1 + abs(g) ** 2)
    shape = np.array([[1 + e.real, e.imag], [e.imag, 1 - e.real]])
    shape *= 0.5 * np.exp(theta[4]) / family.pixel_scale**2
    c = theta[5] if len(theta) > 5 else 0.0
    size = np.hypot(c, SOFTENING) if len(theta) > 5 else 0.0
    shares = np.array([1 - size, (size + c) / 2, (size - c) / 2])
    out = np.zeros((len(family.weight), side, side))
    for band, weights in enumerate(family.weight):
        for i, weight in enumerate(weights):
            xx, xy, yy = family.psf_cov[band, i]
            cov = family.fraction[i] * shape + np.array([[xx, xy], [xy, yy]])
            chi2 = np.einsum("yxi,ij,yxj->yx", offset, np.linalg.inv(cov), offset)
            light = weight * shares[int(i >= family.disk) + int(i >= family.bulge)]
            out[band] += light * np.exp(-0.5 * chi2) / (2 * np.pi * np.sqrt(np.linalg.det(cov)))
    return out


def fluxes(images: Array, data: Array, weight: Array) -> Array:
    """Return the best fluxes ``(b, K)`` of images ``(K, b, y, x)``."""
    root = np.sqrt(weight)
    return np.stack(
        [
            np.linalg.lstsq(
                (images[:, b] * root[b]).reshape(len(images), -1).T,
                (data[b] * root[b]).ravel(),
                rcond=None,
            )[0]
            for b in range(len(data))
        ]
    )


def chi2(images: Array, data: Array, weight: Array) -> float:
    """Return χ² at the best fluxes."""
    model = np.einsum("bk,kbyx->byx", fluxes(images, data, weight), images)
    return float((weight * (data - model) ** 2).sum())


def objective(family: Family, theta: Array, centers: Array, data: Array, weight: Array) -> float:
    """Return χ²/2 − ln prior of K sources ``(K, q)`` at the best fluxes."""
    images = [draw(family, t, c, data.shape[-1]) for t, c in zip(theta, centers, strict=True)]
    off = theta - family.mean
    room = 1 - (theta[:, 2:4] ** 2).sum(1)
    penalty = 0.5 * (family.precision * off**2).sum() - 2 * np.log(room).sum()
    return 0.5 * chi2(np.stack(images), data, weight) + float(penalty)


def distance_from_minimum(
    family: Family, theta: Array, error: Array, centers: Array, data: Array, weight: Array
) -> Array:
    """Return how far each parameter ``(K, q)`` is from a minimum along its axis, in its errors.

    From a parabola through the objective at a thirtieth of an error to either side.
    """
    out = np.empty(theta.shape)
    here = objective(family, theta, centers, data, weight)
    for index in np.ndindex(theta.shape):
        step = np.zeros(theta.shape)
        step[index] = error[index] / 30
        up, down = (objective(family, theta + s, centers, data, weight) for s in (step, -step))
        out[index] = (up - down) / (up + down - 2 * here) / 60
    return out
