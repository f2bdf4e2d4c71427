"""The galaxy model of the mixture fitter: PSF-convolved Gaussian mixtures and their derivatives.

A galaxy is a profile of concentric Gaussians (`profiles.py`), convolved analytically with the
Gaussians of the PSF.  Its parameters are theta = (x, y, g1, g2, ln T) and, for ``bdf``, the
fraction of the light in the bulge; x and y in pixels from the deblended position, T in arcsec².

All sums over Gaussians are matrix products: with E the value of each Gaussian at each pixel,
the model and its derivatives are E times coefficients times polynomials in the offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydeblend.fit.parameters import FRACTION, G1, G2, LOG_T, POSITION, SHEAR, X, Y
from raydeblend.fit.profiles import Profile
from raydeblend.fit.psf import PsfMixture
from raydeblend.fit.single_priors import Priors
from raydeblend.fit.stamps import Stamps

# Pixels in single precision, sums of χ² and everything of the size of theta in double.
PIXEL_TYPE = torch.float32
# What merging Gaussians may change, of the brightness at the center.
MERGING_ERROR = 1e-4
# Step in ln T between classes of size, for which Gaussians are merged alike.
CLASS_WIDTH = 0.7

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Gaussians of the galaxy, each with one of the PSF: the k Gaussians of the image."""

    psf_weight: Tensor  # (b, k)
    psf_cov: Tensor  # (b, k, 3) as xx, xy, yy in pixels²
    gal_weight: Tensor  # (k,)
    gal_slope: Tensor | None  # (k,): change of the weights with the bulge's fraction
    gal_fraction: Tensor  # (k,)


@dataclass(frozen=True)
class Problem:
    """n stamps of one size; pixels are flattened, p = y·x."""

    data: Tensor  # (n, b, p) in units of the band's noise
    weight: Tensor  # (n, b, p)
    start: Tensor  # (n, 2) expected position from the stamp's middle pixel
    x: Tensor  # (p,)
    y: Tensor  # (p,)
    side: int  # of the square of pixels
    pairs: Pairs
    prior_mean: Tensor  # (q,)
    prior_precision: Tensor  # (q,)
    pixel_scale: float

    @property
    def parameters(self) -> int:
        """Length q of theta."""
        return len(self.prior_mean)

    def take(self, index: Tensor) -> Problem:
        """Return the chosen stamps."""
        return replace(
            self, data=self.data[index], weight=self.weight[index], start=self.start[index]
        )

    def with_pixels(self, data: Tensor, weight: Tensor, x: Tensor, y: Tensor) -> Problem:
        """Return the same problem on another square of pixels ``(n, b, y, x)``."""
        return replace(
            self, data=data.flatten(2), weight=weight.flatten(2), x=x, y=y, side=data.shape[-1]
        )


def make_problem(
    stamps: Stamps,
    psf: Sequence[PsfMixture],
    pixel_scale: float,
    shape: Profile,
    priors: Priors,
    device: str = "cpu",
) -> Problem:
    """Bring stamps, PSF, profile and priors to the device."""
    n, bands, height, width = stamps.image.shape
    y, x = np.indices((height, width)).reshape(2, -1)

    def pixels(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=PIXEL_TYPE, device=device)

    def doubles(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=device)

    return Problem(
        data=pixels(stamps.image).reshape(n, bands, -1),
        weight=pixels(stamps.weight).reshape(n, bands, -1),
        start=doubles(stamps.offset),
        x=pixels(x - (width - 1) // 2),
        y=pixels(y - (height - 1) // 2),
        side=width,
        pairs=make_pairs(shape, psf, device=device),
        prior_mean=doubles(priors.mean(shape)),
        prior_precision=doubles(priors.precision(shape)),
        pixel_scale=pixel_scale,
    )


def make_pairs(
    shape: Profile, psf: Sequence[PsfMixture], half_t: float | None = None, device: str = "cpu"
) -> Pairs:
    """Pair the Gaussians of profile and PSF; merge those that the PSF makes all but equal.

    Parameters
    ----------
    half_t
        T/2 in pixels² of the largest galaxy that the pairs are for; None merges nothing.
    """
    psf_weight, psf_cov = _psf_arrays(psf)
    variance = 0.5 * (psf_cov[:, :, 0] + psf_cov[:, :, 2]).min(0)
    columns = []
    for c, (light, size) in enumerate(zip(psf_weight.max(0), variance, strict=True)):
        for group in _groups(shape, light, np.inf if half_t is None else half_t / size):
            own = _mass(shape)[group]
            slope = 0.0 if shape.slope is None else shape.slope[group].sum()
            mean = own @ shape.fractions[group] / own.sum()
            columns.append((c, shape.weights[group].sum(), slope, mean))
    which, weight, slope, fraction = (np.array(column) for column in zip(*columns, strict=True))

    def doubles(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=device)

    return Pairs(
        psf_weight=doubles(psf_weight[:, which]),
        psf_cov=doubles(psf_cov[:, which]),
        gal_weight=doubles(weight),
        gal_slope=None if shape.slope is None else doubles(slope),
        gal_fraction=doubles(fraction),
    )


def size_class(log_t: Array, pixel_scale: float) -> tuple[NDArray[np.int_], Array]:
    """Return the class of size of each galaxy, and the T/2 in pixels² that all in it are below.

    Fixed classes, so that which Gaussians are merged for a source does not depend on the others.
    """
    number = np.ceil(np.nan_to_num(log_t) / CLASS_WIDTH).astype(int)
    return number, 0.5 * np.exp(number * CLASS_WIDTH) / pixel_scale**2


def _mass(shape: Profile) -> Array:
    """Return the light ``(k,)`` that each Gaussian has at most."""
    return shape.weights if shape.slope is None else np.abs(shape.slope)


def _groups(shape: Profile, light: float, relative: float) -> list[NDArray[np.intp]]:
    """Return which Gaussians of the galaxy to merge behind one of the PSF.

    Gaussians of variances C_i, merged at their mean C, miss their central brightness by the
    part Var(C_i) / C² of it.

    Parameters
    ----------
    light
        Weight of the PSF's Gaussian.
    relative
        T/2 over its variance.
    """
    families = [np.arange(len(shape.weights))]
    if shape.slope is not None:
        families = [np.flatnonzero(shape.slope < 0), np.flatnonzero(shape.slope > 0)]
    groups = []
    for family in families:
        merged = 1
        for end in range(2, len(family) + 1) if np.isfinite(relative) else ():
            part = family[:end]
            mass, size = _mass(shape)[part], relative * shape.fractions[part]
            mean = mass @ size / mass.sum()
            error = light * mass @ (size - mean) ** 2 / (1 + mean) ** 2
            merged = end if error < MERGING_ERROR else merged
        groups += [family[:merged], *(family[i : i + 1] for i in range(merged, len(family)))]
    return groups


def _psf_arrays(psf: Sequence[PsfMixture]) -> tuple[Array, Array]:
    """Return weights ``(b, c)`` and covariances ``(b, c, 3)``, padded with weight 0."""
    most = max(len(mixture.weights) for mixture in psf)
    weight = np.zeros((len(psf), most))
    cov = np.tile([1.0, 0.0, 1.0], (len(psf), most, 1))
    for band, mixture in enumerate(psf):
        k, c = len(mixture.weights), mixture.covariances
        order = np.argsort(c[:, 0, 0])
        weight[band, :k] = mixture.weights[order]
        cov[band, :k] = np.stack([c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]], 1)[order]
    return weight, cov


def unit_model(problem: Problem, theta: Tensor) -> Tensor:
    """Return the model of unit flux ``(n, b, p)``."""
    gaussians, norm, *_ = _gaussians(problem, theta)
    value: Tensor = (norm[:, :, None].to(gaussians) @ gaussians)[:, :, 0]
    return value


def model_maps(problem: Problem, theta: Tensor) -> Tensor:
    """Return ``(n, b, 1 + q, p)``: the model of unit flux and its derivatives by theta."""
    gaussians, norm, slope, precision, slopes, (dx, dy), quadratic = _gaussians(problem, theta)
    coefficients = _coefficients(norm, slope, precision, slopes).to(gaussians)
    sums: Tensor = coefficients @ gaussians  # (n, b, 16 or 17, p)
    n, bands, _, p = sums.shape
    maps: Tensor = sums.new_empty(n, bands, 1 + problem.parameters, p)
    maps[:, :, 0] = sums[:, :, 0]
    torch.addcmul(sums[:, :, 1] * dx, sums[:, :, 2], dy, out=maps[:, :, 1 + X])
    torch.addcmul(sums[:, :, 2] * dx, sums[:, :, 3], dy, out=maps[:, :, 1 + Y])
    for i, parameter in enumerate((G1, G2, LOG_T)):
        first = 4 + 4 * i
        curved = (sums[:, :, first : first + 3] * quadratic).sum(2)
        torch.sub(curved, sums[:, :, first + 3], out=maps[:, :, 1 + parameter])
    if slope is not None:
        maps[:, :, 1 + FRACTION] = sums[:, :, 16]
    return maps


def _gaussians(problem: Problem, theta: Tensor) -> tuple[Any, ...]:
    """Return exp(−dᵀ P d / 2) of all Gaussians, ``(n, b, k, p)``, and what it took.

    The rest: their norms ``(n, b, k)`` and the change of these with the bulge's fraction,
    precisions P as three such, the derivatives of their covariances, the offsets d as two
    ``(n, 1, p)``, and (dx², dx dy, dy²), ``(n, 1, 3, p)``.
    """
    weight, slope, cov, slopes = _components(problem, theta)
    xx, xy, yy = cov.unbind(-1)
    determinant = xx * yy - xy**2
    precision = yy / determinant, -xy / determinant, xx / determinant
    center = (problem.start + theta[:, POSITION]).to(problem.x)
    dx = problem.x - center[:, None, :1]
    dy = problem.y - center[:, None, 1:]
    quadratic = torch.stack([dx * dx, dx * dy, dy * dy], 2)
    factors = torch.stack([-0.5 * precision[0], -precision[1], -0.5 * precision[2]], -1)
    # Smaller values would end in denormal numbers, with which all that follows is ten times slower.
    gaussians = (factors.to(quadratic) @ quadratic).clamp_(min=-30).exp_()
    area = 2 * np.pi * determinant.sqrt()
    change = None if slope is None else slope / area
    return gaussians, weight / area, change, precision, slopes, (dx, dy), quadratic


def _coefficients(
    norm: Tensor, slope: Tensor | None, precision: tuple[Tensor, ...], slopes: Tensor
) -> Tensor:
    """Return ``(n, b, 16 or 17, k)``: what to sum over the Gaussians, before the polynomials.

    For a Gaussian I of precision P and offset d, ∂I/∂center = I P d and, for a change dC of its
    covariance, ∂I = I (dᵀ P dC P d − tr(P dC)) / 2.
    """
    pxx, pxy, pyy = precision
    rows = [torch.ones_like(pxx), pxx, pxy, pyy]
    for cxx, cxy, cyy in (slopes[:, :, i].unbind(-1) for i in range(3)):
        ax, ay = pxx * cxx + pxy * cxy, pxx * cxy + pxy * cyy  # rows of P dC
        bx, by = pxy * cxx + pyy * cxy, pxy * cxy + pyy * cyy
        rows += [0.5 * (ax * pxx + ay * pxy), ax * pxy + ay * pyy, 0.5 * (bx * pxy + by * pyy)]
        rows.append(0.5 * (ax + by))
    scaled = norm[:, :, None] * torch.stack(rows, 2)
    return scaled if slope is None else torch.cat([scaled, slope[:, :, None]], 2)


def _components(problem: Problem, theta: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Return weights, their change, covariances and their derivatives by (g1, g2, ln T).

    Shapes ``(n, b, k)``, the same, ``(n, b, k, 3)`` and ``(n, b, 3, k, 3)``; covariances are
    (xx, xy, yy) in pixels².
    """
    pairs = problem.pairs
    galaxy, slopes = _galaxy_covariance(theta, problem.pixel_scale)
    fraction = pairs.gal_fraction[:, None]
    cov = galaxy[:, None, None] * fraction + pairs.psf_cov
    slope = (slopes[:, None, :, None] * fraction).expand(-1, cov.shape[1], -1, -1, -1)
    if pairs.gal_slope is None:
        weight = (pairs.gal_weight * pairs.psf_weight).expand(len(theta), -1, -1)
        return weight, None, cov, slope
    own = pairs.gal_weight + theta[:, FRACTION, None] * pairs.gal_slope
    change = (pairs.gal_slope * pairs.psf_weight).expand(len(theta), -1, -1)
    return own[:, None] * pairs.psf_weight, change, cov, slope


def _galaxy_covariance(theta: Tensor, pixel_scale: float) -> tuple[Tensor, Tensor]:
    """Return ``(n, 3)`` the covariance in pixels² and ``(n, 3, 3)`` its derivatives.

    C = T/2 [[1 + e1, e2], [e2, 1 − e1]] with e = 2g / (1 + |g|²).
    """
    g1, g2 = theta[:, G1], theta[:, G2]
    half = 0.5 * theta[:, LOG_T].exp() / pixel_scale**2
    norm = 1 + g1**2 + g2**2
    e1, e2 = 2 * g1 / norm, 2 * g2 / norm
    zero = torch.zeros_like(half)
    cov = half[:, None] * torch.stack([1 + e1, e2, 1 - e1], 1)
    slopes = [cov]
    for g, unit1, unit2 in ((g2, 0.0, 1.0), (g1, 1.0, 0.0)):
        d1 = 2 * (unit1 - e1 * g) / norm
        d2 = 2 * (unit2 - e2 * g) / norm
        slopes.insert(0, half[:, None] * torch.stack([zero + d1, zero + d2, zero - d1], 1))
    return cov, torch.stack(slopes, 1)


def log_prior(problem: Problem, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return −ln p ``(n,)``, its gradient ``(n, q)`` and its positive curvature ``(n, q, q)``.

    Infinite where the priors exclude theta: |g| of 1 and more.
    """
    offset = theta - problem.prior_mean
    shape = theta[:, SHEAR]
    room = 1 - (shape**2).sum(1)
    inside = room > 1e-6
    room = torch.where(inside, room, 1.0)
    precision = problem.prior_precision.repeat(len(theta), 1)
    penalty = 0.5 * (precision * offset**2).sum(1) - 2 * room.log()
    precision[:, SHEAR] += 4 / room[:, None]
    curvature = torch.diag_embed(precision)
    outer = shape[:, :, None] * shape[:, None] / room[:, None, None] ** 2
    curvature[:, SHEAR, SHEAR] += 8 * outer
    return torch.where(inside, penalty, torch.inf), precision * offset, curvature
