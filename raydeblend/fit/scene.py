"""The scene of a joint fit, and its model at given shapes: images, derivatives and best fluxes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raydeblend.fit.bulge_disk import (
    MixtureImages,
    component_images,
    derivatives,
    source_images,
    unit_light,
)
from raydeblend.fit.parameters import BULGE, COMPONENTS, DISK
from raydeblend.fit.priors import BulgeDiskPriors

# A disk keeps this part of its source's first flux, so that no source loses its gradient.
_FLOOR = 0.01
# Relative to the curvature of a flux: holds it where it is.
_HOLD = 1e7


@dataclass(frozen=True)
class Scene:
    """n blends of K sources each on p pixels, which need not be all of a stamp nor in order.

    Attributes
    ----------
    data, weight
        ``(n, b, p)`` in units of the band's noise; weight 0 where unusable.
    pixels
        ``(n, 2, p)`` coordinates (x, y).
    psf_weight, psf_cov
        ``(n, K, b, c)`` and ``(n, K, b, c, 3)`` (xx, xy, yy in pixels²) at each source.
    start
        ``(n, K, 2)`` expected positions (x, y).
    compact
        ``(n, K)`` sources that were found as points, see `BulgeDiskPriors`.
    pixel_scale
        Arcsec per pixel.
    hidden
        ``(n, b, K)`` sources that a band hardly shows though others do: its flux is expected to be
        that of the others, in units of the noise, give or take all of it.  None if there is none.
    """

    data: Tensor
    weight: Tensor
    pixels: Tensor
    psf_weight: Tensor
    psf_cov: Tensor
    start: Tensor
    compact: Tensor
    pixel_scale: float
    priors: BulgeDiskPriors
    hidden: Tensor | None = None

    def take(self, index: Tensor) -> Scene:
        """Return the chosen blends."""
        names = ("data", "weight", "pixels", "psf_weight", "psf_cov", "start", "compact")
        hidden = None if self.hidden is None else self.hidden[index]
        return replace(self, **{name: getattr(self, name)[index] for name in names}, hidden=hidden)

    def hold(self, scale: Tensor) -> Tensor:
        """Return 1 / flux ``(n, b, K)`` of the sources that a band hides; 0 of the others."""
        return torch.zeros_like(scale) if self.hidden is None else self.hidden / scale


@dataclass(frozen=True)
class Model:
    """The best fluxes of all disks and bulges at some theta, and what follows from them.

    Attributes
    ----------
    unit, weighted
        ``(n, b, 2 K, p)`` images of unit flux, the latter times the weight.
    flux
        ``(n, b, 2 K)``.
    matrix, unbound
        ``(n, b, 2 K, 2 K)`` of the normal equations, see `solve_fluxes`.
    residual
        ``(n, b, p)``.
    slopes
        ``(n, b, 9 K, p)`` derivatives of the images by theta of the sources that are not frozen.
    """

    unit: Tensor
    weighted: Tensor
    flux: Tensor
    matrix: Tensor
    unbound: Tensor
    residual: Tensor
    slopes: Tensor


def model_at(scene: Scene, theta: Tensor, scale: Tensor, frozen: Tensor | None = None) -> Model:
    """Solve the fluxes at theta; `scale` is `flux_scale`.

    `frozen` ``(n, b, 2 m, p)`` are the images of the last m sources, whose theta stays.
    """
    n, k = theta.shape[:2]
    free = k if frozen is None else k - frozen.shape[2] // COMPONENTS
    light = light_of(scene, theta[:, :free], scene.pixels)
    unit = unit_images(light, n)
    unit = unit if frozen is None else torch.cat([unit, frozen], 2)
    weighted = unit * scene.weight[:, :, None]
    gram = (weighted @ unit.transpose(2, 3)).double()
    right = (weighted @ scene.data[..., None])[..., 0].double()
    gram, right = expect_fluxes(gram, right, scene.hold(scale))
    matrix, unbound, flux = solve_fluxes(
        gram, right, scale, scene.priors.bulge, scene.priors.bulge_scatter
    )
    residual = torch.baddbmm(
        scene.data.flatten(0, 1)[:, None],
        flux.to(unit).flatten(0, 1)[:, None],
        unit.flatten(0, 1),
        alpha=-1,
    ).reshape(scene.data.shape)
    own = torch.unflatten(flux, 2, (k, COMPONENTS))[:, :, :free].transpose(1, 2).flatten(0, 1)
    slopes = _by_band(derivatives(light, own), n)
    return Model(unit, weighted, flux, matrix, unbound, residual, slopes)


def render(scene: Scene, theta: Tensor, flux: Tensor, pixels: Tensor, first: int = 0) -> Tensor:
    """Return the images ``(n, m, b, p)`` of m sources, from `first` on, at pixels ``(n, 2, p)``."""
    n, k = theta.shape[:2]
    light = light_of(scene, theta, pixels, first)
    images = source_images(light, flux.transpose(1, 2).flatten(0, 1))
    return torch.unflatten(images, 0, (n, k))


def flux_scale(scene: Scene, theta: Tensor) -> Tensor:
    """Return ``(n, b, K)`` positive total fluxes, for bulges of the usual part of the light."""
    images = component_images(light_of(scene, theta, scene.pixels))
    bulge = scene.priors.bulge
    images = (1 - bulge) * images[:, :, DISK] + bulge * images[:, :, BULGE]
    maps = torch.unflatten(images, 0, theta.shape[:2]).transpose(1, 2)  # (n, b, K, p)
    weighted = maps * scene.weight[:, :, None]
    gram = (weighted @ maps.transpose(2, 3)).double()
    right = (weighted @ scene.data[..., None])[..., 0].double()
    own = gram.diagonal(dim1=2, dim2=3)
    # A ridge of 1 % lets sources on one spot share its light.
    ridge = torch.diag_embed(torch.where(own > 0, 0.01 * own, 1.0))
    flux = solve(gram + ridge, right)
    # A band without usable pixels gets next to no light.
    least = torch.where(own > 0, 2 / own.clamp(min=1e-30).sqrt(), 1e-6)
    found = torch.maximum(flux, least)
    return found if scene.hidden is None else as_others(found, scene.hidden, own > 0)


def as_others(flux: Tensor, hidden: Tensor, there: Tensor) -> Tensor:
    """Return fluxes ``(n, b, K)``, those of hidden sources the mean of the bands that show them."""
    shown = (there & ~hidden).to(flux)
    mean = (flux * shown).sum(1, keepdim=True) / shown.sum(1, keepdim=True).clamp(min=1)
    return torch.where(hidden & (mean > 0), mean, flux)


def expect_fluxes(gram: Tensor, right: Tensor, hold: Tensor) -> tuple[Tensor, Tensor]:
    """Return the normal equations with the prior N(1 / hold, 1 / hold) on fluxes, see `Scene.hold`.

    A flux is the sum of its source's disk and bulge.
    """
    if not hold.any():
        return gram, right
    gram = gram.clone()
    for source in range(hold.shape[2]):
        own = slice(source * COMPONENTS, (source + 1) * COMPONENTS)
        gram[..., own, own] += hold[:, :, source, None, None] ** 2
    return gram, right + hold.repeat_interleave(COMPONENTS, 2)


def light_of(scene: Scene, theta: Tensor, pixels: Tensor, first: int = 0) -> MixtureImages:
    """Evaluate m sources of all blends, from `first` on, ``n m`` in a row."""
    k = theta.shape[1]
    seen = slice(first, first + k)
    psf = scene.psf_weight[:, seen].flatten(0, 1), scene.psf_cov[:, seen].flatten(0, 1)
    each = pixels.repeat_interleave(k, 0)
    return unit_light(theta.flatten(0, 1), psf, each, scene.pixel_scale)


def unit_images(light: MixtureImages, n: int) -> Tensor:
    """Return disks and bulges of unit flux side by side: ``(n, b, 2 K, p)``."""
    return _by_band(component_images(light), n)


def _by_band(maps: Tensor, n: int) -> Tensor:
    """Reorder ``(n K, b, m, p)`` to ``(n, b, K m, p)``."""
    return torch.unflatten(maps, 0, (n, -1)).transpose(1, 2).flatten(2, 3)


def solve_fluxes(
    gram: Tensor, right: Tensor, scale: Tensor, expected: float, scatter: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return two matrices of the normal equations, ``(n, b, 2 K, 2 K)``, and the fluxes.

    The prior on a bulge, N(expected part of the flux, scatter times `scale`), is quadratic in the
    fluxes; none may be negative, and one that would be is held at its bound.  The first matrix
    holds it, as the step must; in the second, for errors, the disk of a source that is held as a
    whole is not: a flux is not known to be at its bound.
    """
    k = scale.shape[2]
    bulge = scale.new_tensor([-expected, 1 - expected])
    prior = bulge[:, None] * bulge / (scatter * scale[..., None, None]) ** 2
    matrix = gram.clone()
    for source in range(k):
        own = slice(source * COMPONENTS, (source + 1) * COMPONENTS)
        matrix[..., own, own] += prior[:, :, source]
    bound = torch.zeros_like(right)
    bound[..., DISK::COMPONENTS] = _FLOOR * scale
    diagonal = matrix.diagonal(dim1=2, dim2=3)
    matrix = matrix + torch.diag_embed(1e-6 * diagonal + 1e-12)
    right = right - (matrix @ bound[..., None])[..., 0]
    above = solve(matrix, right)
    at_bound = torch.zeros_like(above, dtype=torch.bool)
    for _ in range(3):
        negative = (above < 0) & ~at_bound
        if not negative.any():
            break
        at_bound |= negative
        matrix = matrix + torch.diag_embed(negative * _HOLD * diagonal)
        above = solve(matrix, right)
    freed = torch.unflatten(at_bound, 2, (k, COMPONENTS)).all(3).repeat_interleave(COMPONENTS, 2)
    freed[..., BULGE::COMPONENTS] = False
    unbound = matrix - torch.diag_embed(freed * _HOLD * diagonal)
    return matrix, unbound, bound + above.clamp(min=0)


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve systems that may be singular: those give no finite result, and no exception."""
    result: Tensor = torch.linalg.solve_ex(matrix, right).result
    return result
