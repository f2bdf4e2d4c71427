"""Bulge + disk galaxies as Gaussian mixtures, convolved with the PSF: images and derivatives.

A source has nine shape parameters, theta = (x, y, g1, g2, ln r, ln r_b, g1_b, g2_b, ln n): the
center in pixels, shear and half-light radius (arcsec) of a disk, size and shear of a de Vaucouleurs
bulge of the same center, and the Sérsic index of the disk, 1 for an exponential one.  In each band
the light of disk and of bulge is linear.

All sums over Gaussians are matrix products, as in `profile_model`: with E the value of each
Gaussian at each pixel, images and derivatives are E times coefficients times polynomials of the
offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from torch import Tensor

from raydeblend.fit.parameters import (
    BULGE,
    DISK,
    LOG_INDEX,
    PARAMETERS,
    POSITION,
    SHAPES,
    X,
    Y,
)
from raydeblend.fit.sersic import (
    BULGE_INDEX,
    BULGE_VARIANCES,
    DEGREE,
    LOG_INDICES,
    VARIANCES,
    index_weights,
    weight_polynomials,
)

# How many of the innermost Gaussians of disk and bulge are merged into one where they are convolved
# with the wide Gaussians of the PSF's wings, beside which they are narrow.
_MERGED_IN_WINGS = (2, 3)
CORE_COMPONENTS = 2
"""Gaussians of the PSF, the narrowest first, that are its core; the others are its wings."""


@dataclass(frozen=True)
class MixtureImages:
    """What the Gaussians of n sources are, and their values at the pixels.

    Attributes
    ----------
    values
        ``(n, b, k, p)`` exp(−dᵀ P d / 2) of Gaussian k in band b at pixel p.
    norm
        ``(n, b, k)``: a Gaussian, of the flux that it has in its profile, is norm times value.
    by_index
        ``(n, b, k)`` derivative of the norm by ln n.
    precision
        P as three ``(n, b, k)``: xx, xy, yy.
    slopes
        ``(n, 1, 3, k, 3)`` derivatives of the covariances by (g1, g2, ln r) of their component,
        the same in all bands.
    offset
        ``(n, 2, p)`` from the center, (dx, dy).
    quadratic
        ``(n, 3, p)``: dx², dx dy, dy².
    disk
        How many of the Gaussians, the first ones, are the disk's; the others are the bulge's.
    """

    values: Tensor
    norm: Tensor
    by_index: Tensor
    precision: tuple[Tensor, Tensor, Tensor]
    slopes: Tensor
    offset: Tensor
    quadratic: Tensor
    disk: int

    @property
    def parts(self) -> tuple[slice, slice]:
        """The Gaussians of the disk and of the bulge."""
        return slice(0, self.disk), slice(self.disk, None)


@dataclass(frozen=True)
class ConvolvedMixture:
    """Gaussians of disk and bulge, each with one of the PSF: the k Gaussians of a source.

    Attributes
    ----------
    component, psf
        ``(k,)`` whose Gaussian it is, 0 of the disk and 1 of the bulge, and which of the PSF's.
    weights, slopes
        ``(k, d)`` and ``(k, d - 1)`` Chebyshev series of its weight and of the derivative, in ln n
        scaled to `sersic.LOG_INDICES`.
    variances
        ``(k,)`` along an axis in pixels² for a half-light radius of 1 arcsec.
    disk
        How many, the first ones, are the disk's.
    """

    component: Tensor
    psf: Tensor
    weights: Tensor
    slopes: Tensor
    variances: Tensor
    disk: int


def unit_light(
    theta: Tensor, psf: tuple[Tensor, Tensor], pixels: Tensor, pixel_scale: float
) -> MixtureImages:
    """Evaluate the Gaussians of n sources.

    Parameters
    ----------
    theta
        ``(n, 9)``.
    psf
        Weights ``(n, b, c)`` and covariances ``(n, b, c, 3)`` (xx, xy, yy in pixels²), the
        narrowest Gaussians first.
    pixels
        ``(n, 2, p)`` coordinates (x, y).
    pixel_scale
        Arcsec per pixel.
    """
    weight, by_index, cov, slopes, disk = _convolved(theta, psf, pixel_scale)
    xx, xy, yy = cov.unbind(-1)
    determinant = xx * yy - xy**2
    precision = yy / determinant, -xy / determinant, xx / determinant
    offset = pixels - theta[:, POSITION, None].to(pixels)
    dx, dy = offset.unbind(1)
    quadratic = torch.stack([dx * dx, dx * dy, dy * dy], 1)
    factors = torch.stack([-0.5 * precision[0], -precision[1], -0.5 * precision[2]], -1)
    # Smaller values would end in denormal numbers, with which all that follows is ten times slower.
    values = (factors.to(pixels) @ quadratic[:, None]).clamp_(min=-30).exp_()
    peak = 1 / (2 * np.pi * determinant.sqrt())
    norms = weight * peak, by_index * peak
    return MixtureImages(values, *norms, precision, slopes, offset, quadratic, disk)


def component_images(light: MixtureImages) -> Tensor:
    """Return disk and bulge of unit flux, ``(n, b, 2, p)``."""
    norm = light.norm[:, :, None].to(light.values)
    return torch.cat([norm[..., part] @ light.values[:, :, part] for part in light.parts], 2)


def source_images(light: MixtureImages, flux: Tensor) -> Tensor:
    """Return the sources' images ``(n, b, p)`` for fluxes ``(n, b, 2)`` of disk and bulge."""
    scaled = _scaled_norm(light, flux).to(light.values)
    return (scaled[:, :, None] @ light.values)[:, :, 0]


def derivatives(light: MixtureImages, flux: Tensor) -> Tensor:
    """Return the derivatives of the sources' images by theta, ``(n, b, 9, p)``.

    For a Gaussian I of precision P and offset d, ∂I/∂center = I P d and, for a change dC of its
    covariance, ∂I = I (dᵀ P dC P d − tr(P dC)) / 2.
    """
    scaled = _scaled_norm(light, flux)[:, :, None]
    center, shape = ((scaled * rows).to(light.values) for rows in _rows(light))
    dx, dy = (d[:, None] for d in light.offset.unbind(1))
    pull = center @ light.values  # (n, b, 3, p)
    out = pull.new_empty(*pull.shape[:2], PARAMETERS, pull.shape[3])
    out[:, :, X] = pull[:, :, 0] * dx + pull[:, :, 1] * dy
    out[:, :, Y] = pull[:, :, 1] * dx + pull[:, :, 2] * dy
    polynomial = torch.cat([light.quadratic, -torch.ones_like(light.quadratic[:, :1])], 1)
    for columns, part in zip(SHAPES, light.parts, strict=True):
        sums = torch.unflatten(shape[..., part] @ light.values[:, :, part], 2, (len(columns), 4))
        sums *= polynomial[:, None, None]
        out[:, :, columns] = sums.sum(3)
    by_index = (light.by_index * flux[..., :1])[:, :, None].to(light.values)
    out[:, :, LOG_INDEX] = (by_index @ light.values)[:, :, 0]
    return out


def _scaled_norm(light: MixtureImages, flux: Tensor) -> Tensor:
    norms = [light.norm[..., part] for part in light.parts]
    return torch.cat([norm * flux[..., i : i + 1] for i, norm in enumerate(norms)], 2)


def _rows(light: MixtureImages) -> tuple[Tensor, Tensor]:
    """Return ``(n, b, 3, k)`` and ``(n, b, 12, k)``: what to sum over the Gaussians.

    For the center, and for each of (g1, g2, ln r) of a Gaussian's own component the coefficients
    of dx², dx dy, dy² and −1.
    """
    pxx, pxy, pyy = light.precision
    cxx, cxy, cyy = light.slopes.unbind(-1)  # (n, b, 3, k)
    pxx, pxy, pyy = pxx[:, :, None], pxy[:, :, None], pyy[:, :, None]
    ax, ay = pxx * cxx + pxy * cxy, pxx * cxy + pxy * cyy  # rows of P dC
    bx, by = pxy * cxx + pyy * cxy, pxy * cxy + pyy * cyy
    shape = torch.stack(
        [
            0.5 * (ax * pxx + ay * pxy),
            ax * pxy + ay * pyy,
            0.5 * (bx * pxy + by * pyy),
            0.5 * (ax + by),
        ],
        3,
    ).flatten(2, 3)  # (n, b, 12, k)
    return torch.cat([pxx, pxy, pyy], 2), shape


def _convolved(
    theta: Tensor, psf: tuple[Tensor, Tensor], pixel_scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return weights and covariances of all Gaussians; how many are the disk's.

    Each with derivatives, those of the weights by ln n.  Disk and bulge meet the core of the PSF
    and, more of their Gaussians merged, its wings.
    """
    psf_weight, psf_cov = psf
    table = _gaussians(psf_weight.shape[2], pixel_scale, theta.device)
    matrix, slopes = _components(theta)
    variances = table.variances[:, None]
    cov = (matrix[:, table.component] * variances)[:, None] + psf_cov[:, :, table.psf]
    slopes = (slopes[:, :, table.component] * variances)[:, None]
    powers = _chebyshev(theta[:, LOG_INDEX])
    weights, by_index = (
        (powers[:, : len(series.T)] @ series.T)[:, None] * psf_weight[:, :, table.psf]
        for series in (table.weights, table.slopes)
    )
    inside = (theta[:, LOG_INDEX] > LOG_INDICES[0]) & (theta[:, LOG_INDEX] < LOG_INDICES[1])
    return weights, by_index * inside[:, None, None], cov, slopes, table.disk


def _chebyshev(log_index: Tensor) -> Tensor:
    """Return the Chebyshev polynomials ``(n, d)`` of ln n, which ends at `LOG_INDICES`."""
    low, high = LOG_INDICES
    x = (2 * (log_index.clamp(low, high) - low) / (high - low) - 1).clamp(-1, 1)
    return torch.cos(torch.arange(DEGREE + 1, device=x.device) * torch.acos(x)[:, None])


def _components(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the covariances of disk and bulge for variances of 1, and their derivatives.

    ``(n, 2, 3)`` as xx, xy, yy, and by (g1, g2, ln r) ``(n, 3, 2, 3)``.  A shear keeps the area,
    so that r is that of the round galaxy: C = r² / (1 − |g|²) [[1 + |g|² + 2 g1, 2 g2],
    [2 g2, 1 + |g|² − 2 g1]].
    """
    g1, g2, log_radius = theta[:, SHAPES].unbind(2)
    square = g1**2 + g2**2
    scale = (2 * log_radius).exp() / (1 - square)
    cov = torch.stack([1 + square + 2 * g1, 2 * g2, 1 + square - 2 * g1], 2) * scale[..., None]
    zero, two = torch.zeros_like(g1), torch.full_like(g1, 2.0)
    by_g1 = torch.stack([2 * g1 + 2, zero, 2 * g1 - 2], 2)
    by_g2 = torch.stack([2 * g2, two, 2 * g2], 2)
    shears = [
        by * scale[..., None] + (2 * g / (1 - square))[..., None] * cov
        for by, g in ((by_g1, g1), (by_g2, g2))
    ]
    return cov, torch.stack([*shears, 2 * cov], 1)


@dataclass(frozen=True)
class GaussianPairs:
    """Which Gaussians of the profiles meet which of the PSF.

    Arrays as in `ConvolvedMixture`; variances are for a half-light radius of 1, in its unit
    squared.
    """

    component: NDArray[np.int64]
    psf: NDArray[np.int64]
    weights: NDArray[np.float64]
    slopes: NDArray[np.float64]
    variances: NDArray[np.float64]
    disk: int


@cache
def gaussian_pairs(psf_components: int) -> GaussianPairs:
    """Return the Gaussians of disk and bulge, each with one of the PSF, narrowest first."""
    core = range(min(CORE_COMPONENTS, psf_components))
    wings = range(len(core), psf_components)
    rows = [
        (component, c, weight, variance)
        for component in (DISK, BULGE)
        for chosen, merged in ((core, (1, 1)), (wings, _MERGED_IN_WINGS))
        for weight, variance in zip(*_merged(component, merged[component]), strict=True)
        for c in chosen
    ]
    component, c, weight, variance = (np.array(column) for column in zip(*rows, strict=True))
    per_log_index = 2 / (LOG_INDICES[1] - LOG_INDICES[0])
    slopes = per_log_index * chebyshev.chebder(weight, axis=1)
    disk = int((component == DISK).sum())
    return GaussianPairs(component, c, weight, slopes, variance, disk)


# Kept, so also for those who take derivatives through it.
@cache
@torch.inference_mode(False)
def _gaussians(psf_components: int, pixel_scale: float, device: torch.device) -> ConvolvedMixture:
    """Return the pairs of Gaussians on a device, their variances in pixels²."""
    pairs = gaussian_pairs(psf_components)
    return ConvolvedMixture(
        component=torch.as_tensor(pairs.component, device=device),
        psf=torch.as_tensor(pairs.psf, device=device),
        weights=torch.as_tensor(pairs.weights, device=device),
        slopes=torch.as_tensor(pairs.slopes, device=device),
        # Of half-light radius 1 arcsec, in pixels².
        variances=torch.as_tensor(pairs.variances / pixel_scale**2, device=device),
        disk=pairs.disk,
    )


def _merged(component: int, first: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the series of weights ``(k, d)`` and the variances ``(k,)`` of disk or bulge.

    Of radius 1, its `first` innermost Gaussians one, of the variance that they have together in a
    de Vaucouleurs profile: flatter ones have next to no light in them.
    """
    weights, variances = _disk() if component == DISK else _bulge()
    steep = index_weights(BULGE_INDEX, variances)
    inner = np.average(variances[:first], weights=steep[:first])
    return (
        np.concatenate([weights[:first].sum(0, keepdims=True), weights[first:]]),
        np.concatenate([[inner], variances[first:]]),
    )


def _disk() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return weight_polynomials(), VARIANCES


def _bulge() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights = np.zeros((len(BULGE_VARIANCES), DEGREE + 1))
    weights[:, 0] = index_weights(BULGE_INDEX, BULGE_VARIANCES)
    return weights, BULGE_VARIANCES
