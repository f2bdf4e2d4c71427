"""Bulge + disk galaxies as Gaussian mixtures, convolved with the PSF: images and derivatives.

A source has eight shape parameters, theta = (x, y, g1, g2, ln r, ln r_b, g1_b, g2_b): the centre
in pixels, shear and half-light radius (arcsec) of an exponential disk, then size and shear of a
de Vaucouleurs bulge of the same centre.  In each band the light of disk and of bulge is linear.

All sums over Gaussians are matrix products, as in `mixture.py`: with E the value of each Gaussian
at each pixel, images and derivatives are E times coefficients times polynomials of the offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydeblend.measure.profiles import profile

PARAMETERS = 8
COMPONENTS = 2
"""Disk and bulge, in this order."""

# How many of the innermost Gaussians of a profile, far narrower than any seeing, are merged into
# one; and how many where the wide Gaussians of the PSF's wings are convolved with them.
_MERGED = {"exp": 2, "dev": 4}
_MERGED_IN_WINGS = {"exp": 4, "dev": 6}
CORE_COMPONENTS = 2
"""Gaussians of the PSF, the narrowest first, that are its core; the others are its wings."""
# Rows of coefficients: 3 for the centre, then 4 for each of (g1, g2, ln r) of disk and bulge.
_SHAPES = 3


@dataclass(frozen=True)
class Light:
    """What the Gaussians of n sources are, and their values at the pixels.

    Attributes
    ----------
    values
        ``(n, b, k, p)`` exp(−dᵀ P d / 2) of Gaussian k in band b at pixel p.
    norm
        ``(n, b, k)``: a Gaussian of unit flux is norm times value.
    precision
        P as three ``(n, b, k)``: xx, xy, yy.
    slopes
        ``(n, b, 3, k, 3)`` derivatives of the covariances by (g1, g2, ln r) of their component.
    offset
        ``(n, 2, p)`` from the centre, (dx, dy).
    quadratic
        ``(n, 3, p)``: dx², dx dy, dy².
    in_disk
        ``(k,)`` 1 for a Gaussian of the disk, 0 for one of the bulge.
    """

    values: Tensor
    norm: Tensor
    precision: tuple[Tensor, Tensor, Tensor]
    slopes: Tensor
    offset: Tensor
    quadratic: Tensor
    in_disk: Tensor


@dataclass(frozen=True)
class _Round:
    """A profile of half-light radius 1: weights and variances along an axis, both ``(k,)``."""

    weights: Tensor
    variances: Tensor


def unit_light(
    theta: Tensor, psf: tuple[Tensor, Tensor], pixels: Tensor, pixel_scale: float
) -> Light:
    """Evaluate the Gaussians of n sources.

    Parameters
    ----------
    theta
        ``(n, 8)``.
    psf
        Weights ``(n, b, c)`` and covariances ``(n, b, c, 3)`` (xx, xy, yy in pixels²), the
        narrowest Gaussians first.
    pixels
        ``(n, 2, p)`` coordinates (x, y).
    pixel_scale
        Arcsec per pixel.
    """
    weight, cov, slopes, in_disk = _convolved(theta, psf, pixel_scale)
    xx, xy, yy = cov.unbind(-1)
    determinant = xx * yy - xy**2
    precision = yy / determinant, -xy / determinant, xx / determinant
    offset = pixels - theta[:, :2, None].to(pixels)
    dx, dy = offset.unbind(1)
    quadratic = torch.stack([dx * dx, dx * dy, dy * dy], 1)
    factors = torch.stack([-0.5 * precision[0], -precision[1], -0.5 * precision[2]], -1)
    # Smaller values would end in denormal numbers, with which all that follows is ten times slower.
    values = (factors.to(pixels) @ quadratic[:, None]).clamp_(min=-30).exp_()
    norm = weight / (2 * np.pi * determinant.sqrt())
    return Light(values, norm, precision, slopes, offset, quadratic, in_disk)


def component_images(light: Light) -> Tensor:
    """Return disk and bulge of unit flux, ``(n, b, 2, p)``."""
    chosen = torch.stack([light.in_disk, 1 - light.in_disk])
    return (light.norm[:, :, None] * chosen).to(light.values) @ light.values


def source_images(light: Light, flux: Tensor) -> Tensor:
    """Return the sources' images ``(n, b, p)`` for fluxes ``(n, b, 2)`` of disk and bulge."""
    scaled = _scaled_norm(light, flux).to(light.values)
    return (scaled[:, :, None] @ light.values)[:, :, 0]


def derivatives(light: Light, flux: Tensor) -> Tensor:
    """Return the derivatives of the sources' images by theta, ``(n, b, 8, p)``.

    For a Gaussian I of precision P and offset d, ∂I/∂centre = I P d and, for a change dC of its
    covariance, ∂I = I (dᵀ P dC P d − tr(P dC)) / 2.
    """
    coefficients = _scaled_norm(light, flux)[:, :, None] * _rows(light)
    sums = coefficients.to(light.values) @ light.values  # (n, b, 27, p)
    dx, dy = (d[:, None] for d in light.offset.unbind(1))
    out = sums.new_empty(*sums.shape[:2], PARAMETERS, sums.shape[3])
    out[:, :, 0] = sums[:, :, 0] * dx + sums[:, :, 1] * dy
    out[:, :, 1] = sums[:, :, 1] * dx + sums[:, :, 2] * dy
    shapes = torch.unflatten(sums[:, :, 3:], 2, (2 * _SHAPES, 4))
    out[:, :, 2:] = (shapes[:, :, :, :3] * light.quadratic[:, None, None]).sum(3) - shapes[
        :, :, :, 3
    ]
    # From (g1, g2, ln r) of disk and bulge to the order of theta.
    return out[:, :, [0, 1, 2, 3, 4, 7, 5, 6]]


def _scaled_norm(light: Light, flux: Tensor) -> Tensor:
    disk, bulge = flux[..., :1], flux[..., 1:]
    return light.norm * (light.in_disk * disk + (1 - light.in_disk) * bulge)


def _rows(light: Light) -> Tensor:
    """Return ``(n, b, 27, k)``: what to sum over the Gaussians, before the polynomials."""
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
    return torch.cat([pxx, pxy, pyy, shape * light.in_disk, shape * (1 - light.in_disk)], 2)


def _convolved(
    theta: Tensor, psf: tuple[Tensor, Tensor], pixel_scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return weights, covariances and their derivatives of all Gaussians, and which are disk."""
    parts = [
        _convolved_with(theta, tuple(each[:, :, chosen] for each in psf), merged, pixel_scale)
        for chosen, merged in (
            (slice(0, CORE_COMPONENTS), _MERGED),
            (slice(CORE_COMPONENTS, None), _MERGED_IN_WINGS),
        )
    ]
    weight, cov, slopes, in_disk = zip(*parts, strict=True)
    return torch.cat(weight, 2), torch.cat(cov, 2), torch.cat(slopes, 3), torch.cat(in_disk)


def _convolved_with(
    theta: Tensor, psf: tuple[Tensor, ...], merged: dict[str, int], pixel_scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    psf_weight, psf_cov = psf
    disk, bulge = _round("exp", merged, theta), _round("dev", merged, theta)
    weight = torch.cat([disk.weights, bulge.weights])
    parts = [
        _component(theta[:, columns], shape.variances, pixel_scale)
        for columns, shape in (((2, 3, 4), disk), ((6, 7, 5), bulge))
    ]
    cov = torch.cat([part[0] for part in parts], 1)  # (n, k, 3)
    slopes = torch.cat([part[1] for part in parts], 2)  # (n, 3, k, 3)
    n, bands, c = psf_weight.shape
    k = len(weight)
    full = cov[:, None, :, None] + psf_cov[:, :, None]
    slopes = slopes[:, None, :, :, None].expand(n, bands, 3, k, c, 3)
    weights = weight[:, None] * psf_weight[:, :, None]
    in_disk = torch.arange(k, device=theta.device) < len(disk.weights)
    return (
        weights.reshape(n, bands, k * c),
        full.reshape(n, bands, k * c, 3),
        slopes.reshape(n, bands, 3, k * c, 3),
        in_disk.to(theta).repeat_interleave(c),
    )


def _component(shape: Tensor, variances: Tensor, pixel_scale: float) -> tuple[Tensor, Tensor]:
    """Return covariances ``(n, k, 3)`` in pixels² and their derivatives ``(n, 3, k, 3)``.

    `shape` is (g1, g2, ln r), ``(n, 3)``.  A shear keeps the area, so that r is that of the round
    galaxy: C = v / (1 − |g|²) [[1 + |g|² + 2 g1, 2 g2], [2 g2, 1 + |g|² − 2 g1]].
    """
    g1, g2 = shape[:, 0], shape[:, 1]
    scale = (2 * shape[:, 2]).exp() / pixel_scale**2
    square = g1**2 + g2**2
    room = (1 - square)[:, None]
    matrix = torch.stack([1 + square + 2 * g1, 2 * g2, 1 + square - 2 * g1], 1)
    zero, two = torch.zeros_like(g1), torch.full_like(g1, 2.0)
    by_g1 = torch.stack([2 * g1 + 2, zero, 2 * g1 - 2], 1)
    by_g2 = torch.stack([2 * g2, two, 2 * g2], 1)
    rows = [matrix / room]
    rows += [by / room + 2 * g[:, None] * matrix / room**2 for by, g in ((by_g1, g1), (by_g2, g2))]
    rows.append(2 * rows[0])
    spread = (scale[:, None] * variances)[..., None]
    cov, *slopes = (row[:, None] * spread for row in rows)
    return cov, torch.stack(slopes, 1)


def _round(name: str, merged: dict[str, int], like: Tensor) -> _Round:
    """Return a profile, its innermost Gaussians merged, on the device of `like`."""
    table = profile(name)
    # T is <x²> + <y²>, twice the variance along an axis.
    variances = 0.5 * table.t_per_radius2 * table.fractions
    first = merged[name]
    core = table.weights[:first]
    weights = np.concatenate([[core.sum()], table.weights[first:]])
    inner = np.average(variances[:first], weights=core)
    variances = np.concatenate([[inner], variances[first:]])
    return _Round(torch.as_tensor(weights).to(like), torch.as_tensor(variances).to(like))
