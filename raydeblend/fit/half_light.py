"""Size of a galaxy as a whole: the radius that holds half of the light of all its components.

Components share a center; each counts by its circularized radius, the one that a shear leaves
the area of.  Profiles are sums of Gaussians (`profiles`), so the light within r is a sum of
1 − exp(−r² / 2 σ²).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.galaxy import SOFTENING
from raydeblend.fit.parameters import CONCENTRATION
from raydeblend.fit.profiles import profile
from raydeblend.fit.sersic import VARIANCES, weights_at

Array = NDArray[np.float64]

SERSIC = "sersic"
STEPS = 30
"""Most steps in ln r; as many bisections end at a billionth of the bracket."""
SETTLED = 1e-10
"""Change of ln r at which a galaxy is done; Newton's steps get there in a few."""
WIDEST = 12.0
"""Of the bracket of a single component, in ln r about its radius."""


@dataclass(frozen=True)
class Components:
    """The concentric parts of k galaxies.

    Attributes
    ----------
    profiles
        Name of the profile of each of the c components, one of `profiles.MODELS` or ``sersic``.
    radius
        ``(k, c)`` circularized half-light radii, in any unit.
    flux
        ``(bands, k, c)``; a negative flux counts as none.
    log_index
        ``(k,)`` ln of the Sérsic index of components called ``sersic``; None without such.
    """

    profiles: tuple[str, ...]
    radius: Array
    flux: Array
    log_index: Array | None = None

    @property
    def shares(self) -> Array:
        """Parts ``(k, c)`` of the components in the light of all measured bands; sum 1 or 0."""
        light = np.nansum(np.maximum(self.flux, 0), axis=0)
        return np.asarray(light / np.maximum(light.sum(-1, keepdims=True), 1e-30))

    def fraction(self, component: int) -> Array:
        """Return the part ``(k, bands)`` of a component in each band; NaN without any light."""
        light = np.maximum(self.flux, 0)
        total = light.sum(-1)
        part = light[..., component] / np.where(total > 0, total, np.nan)
        return np.asarray(part.T)


def half_light_radius(components: Components) -> tuple[Array, Array]:
    """Return the half-light radius ``(k,)`` and its slopes d ln r / d ln radius ``(k, c)``.

    The slopes are for fixed fluxes and sum to 1.  NaN for a galaxy without light.
    """
    shares = components.shares
    radius = np.log(components.radius)
    shapes = [
        _unit_mixture(name)
        if components.log_index is None or name != SERSIC
        else (weights_at(components.log_index), VARIANCES)
        for name in components.profiles
    ]
    has_light = shares > 0
    low = np.where(has_light, radius, np.inf).min(-1)
    high = np.where(has_light, radius, -np.inf).max(-1)
    good = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(good, low, 0.0), np.where(good, high, 0.0)
    middle = 0.5 * (low + high)
    going = good & (high > low)
    for _ in range(STEPS):
        if not going.any():
            break
        inside, slopes = _light_within(middle, radius, shares, shapes)
        low, high = np.where(inside < 0.5, middle, low), np.where(inside < 0.5, high, middle)
        following = _newton(middle, inside, slopes.sum(-1), low, high)
        # One that is done stays where it is, whatever the others need.
        going, middle = (
            going & (np.abs(following - middle) > SETTLED),
            np.where(going, following, middle),
        )
    _, slopes = _light_within(middle, radius, shares, shapes)
    total = slopes.sum(-1, keepdims=True)
    slopes = slopes / np.where(total > 0, total, np.nan)
    return np.where(good, np.exp(middle), np.nan), slopes


def _newton(middle: Array, inside: Array, slope: Array, low: Array, high: Array) -> Array:
    """Return the next ln r: where the slope leads, or the middle of the bracket if that is out."""
    step = (0.5 - inside) / np.where(slope > 0, slope, np.nan)
    within = (middle + step >= low) & (middle + step <= high)
    return np.where(within, middle + step, 0.5 * (low + high))


def _light_within(
    log_r: Array, log_radius: Array, shares: Array, shapes: Sequence[tuple[Array, Array]]
) -> tuple[Array, Array]:
    """Return the light ``(k,)`` within r and what each component adds per ln r, ``(k, c)``."""
    inside, slopes = np.zeros(log_r.shape), np.zeros(log_radius.shape)
    for c, (weights, variances) in enumerate(shapes):
        square = np.exp(2 * (log_r - log_radius[:, c]))[:, None] / (2 * variances)
        outside = np.exp(-square)
        inside += shares[:, c] * ((1 - outside) * weights).sum(-1)
        slopes[:, c] = shares[:, c] * (2 * square * outside * weights).sum(-1)
    return inside, slopes


@cache
def _unit_mixture(name: str) -> tuple[Array, Array]:
    """Return weights and variances of a mixture that has half its light within 1, exactly.

    The mixtures of `profiles` have it within a fraction of a percent of the true radius.
    """
    shape = profile(name)
    variances = 0.5 * shape.t_per_radius2 * shape.fractions
    low, high = -WIDEST, WIDEST
    for _ in range(2 * STEPS):
        middle = 0.5 * (low + high)
        inside = float(shape.weights @ (1 - np.exp(-np.exp(2 * middle) / (2 * variances))))
        low, high = (middle, high) if inside < 0.5 else (low, middle)
    return shape.weights, variances * np.exp(-2 * middle)


def exponential_t(r50: Array, g1: Array, g2: Array) -> Array:
    """Return <x²> + <y²> of an exponential disk of half-light radius r50 and reduced shear g."""
    square = g1**2 + g2**2
    return np.asarray(profile("exp").t_per_radius2 * r50**2 * (1 + square) / (1 - square))


def bulge_fraction(theta: Array) -> Array:
    """Return the bulge's part of the light of single profiles, ``(k, 1)``; NaN without one.

    `theta` ``(k, q)`` is that of `profile_model`.
    """
    if theta.shape[1] <= CONCENTRATION:
        return np.full((len(theta), 1), np.nan)
    c = theta[:, [CONCENTRATION]]
    return np.asarray(np.clip((np.hypot(c, SOFTENING) + c) / 2, 0, 1))
