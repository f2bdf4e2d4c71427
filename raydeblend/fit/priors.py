"""What a bulge + disk galaxy looks like before it is seen.

Means and scatters of sizes, shears and bulges are those of CatSim galaxies with i < 25.3 (LSST's
simulated sky, Connolly et al. 2014, SPIE 9150, 14), rounded: half-light radii of disks scatter by
0.75 in ln about 0.3", bulges have half the size of their disk with a scatter of 1.0, and a tenth
of the light.  Widths of the priors on position and shear are wider than the truth where a narrower
one was found to bias fluxes or shapes (`docs/joint.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from raydeblend.fit.parameters import (
    BULGE_G1,
    BULGE_G2,
    BULGE_LOG_RADIUS,
    BULGE_SHEAR,
    G1,
    G2,
    LOG_INDEX,
    LOG_RADII,
    LOG_RADIUS,
    PARAMETERS,
    POSITION,
    SHEAR,
)
from raydeblend.fit.sersic import LOG_INDICES

# Bulges of this shear or more are outside the domain; for disks the prior sees to that.
_MAX_BULGE_SHEAR = 0.95


@dataclass(frozen=True)
class BulgeDiskPriors:
    """Priors of each source; fluxes are free but not negative.

    Attributes
    ----------
    center
        Standard deviation, in pixels, of each coordinate about the expected position: a peak of
        the image, which a close neighbor pulls over.
    given_position_sigma
        The same of positions that somebody gives; the caller sets `center` to it.
    held_position_sigma
        The same of positions that are to stay.
    shape
        Width of p(g) ∝ (1 − g²)² exp(−g²/2σ²) (Bernstein & Armstrong 2014, eq. 24) of the disk.
    log_radius, log_radius_scatter
        ln of the disk's half-light radius in arcsec.
    log_ratio, log_ratio_scatter
        ln of the bulge's radius over the disk's.
    most_log_ratio, ratio_wall
        Where that ends softly, and the scatter beyond it: a bulge far larger than its disk is no
        bulge, but takes the skirts of all that is near.
    alignment, alignment_scatter
        A bulge's shear is that of its disk times `alignment`, with this scatter.  CatSim's bulges
        have 0.2 times it, but what little light they have hardly tells, and any galaxy whose
        bulge is as long as its disk would be measured too round.
    index_width
        The disk's Sérsic index: ln n has the Cauchy distribution of this half width about 0, which
        holds a faint disk near an exponential and lets a bright one go where its light is.
    index_wall
        Scatter of ln n beyond the indices that there are Gaussians for.
    bulge, bulge_scatter
        Mean and scatter of the bulge's part of the light, in each band.
    largest, largest_scatter
        Sources that were found as points in a residual, "compact", have radii below `largest`
        (ln arcsec), with this scatter beyond it: else they take what a bright neighbor's model
        leaves of its outskirts.
    """

    center: float = 2.5
    given_position_sigma: float = 0.25
    held_position_sigma: float = 0.02
    shape: float = 0.45
    log_radius: float = -1.2
    log_radius_scatter: float = 0.75
    log_ratio: float = -0.6
    log_ratio_scatter: float = 0.8
    most_log_ratio: float = 0.7
    ratio_wall: float = 0.1
    alignment: float = 0.8
    alignment_scatter: float = 0.15
    index_width: float = 0.1
    index_wall: float = 0.1
    bulge: float = 0.1
    bulge_scatter: float = 0.3
    largest: float = 0.0
    largest_scatter: float = 0.1

    def usual(self, start: Tensor) -> Tensor:
        """Return theta ``(n, K, 9)`` of usual round galaxies at positions ``(n, K, 2)``."""
        theta = start.new_zeros(*start.shape[:2], PARAMETERS)
        theta[..., POSITION] = start
        theta[..., LOG_RADIUS] = self.log_radius
        theta[..., BULGE_LOG_RADIUS] = self.log_radius + self.log_ratio
        return theta


def log_prior(
    priors: BulgeDiskPriors, theta: Tensor, start: Tensor, compact: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return −ln p ``(n, K)``, its gradient ``(n, K, 9)`` and its positive curvature.

    `start` ``(n, K, 2)`` are expected positions and `compact` ``(n, K)`` tells which sources are.

    All but the barrier of the disk's shear and its index is Gaussian: −ln p = |A theta − mean|² / 2
    with rows of A divided by their scatter.
    """
    rows, mean = _whitening(priors, theta, start)
    off = theta @ rows.T - mean
    penalty = 0.5 * (off**2).sum(-1)
    gradient = off @ rows
    curvature = (rows.T @ rows).expand(*theta.shape, theta.shape[-1]).clone()

    shear = theta[..., SHEAR]
    room = 1 - (shear**2).sum(-1)
    inside = (room > 1e-6) & ((theta[..., BULGE_SHEAR] ** 2).sum(-1) < _MAX_BULGE_SHEAR**2)
    room = torch.where(inside, room, 1.0)
    gradient[..., SHEAR] += 4 * shear / room[..., None]
    barrier = 8 * shear[..., :, None] * shear[..., None, :] / room[..., None, None] ** 2
    barrier += 4 * torch.eye(2).to(theta) / room[..., None, None]
    curvature[..., SHEAR, SHEAR] += barrier
    penalty = torch.where(inside, penalty - 2 * room.log(), torch.inf)

    sizes = theta[..., LOG_RADII]
    over = (sizes - priors.largest).clamp(min=0) * compact[..., None] / priors.largest_scatter
    penalty = penalty + 0.5 * (over**2).sum(-1)
    gradient[..., LOG_RADII] += over / priors.largest_scatter
    for index, beyond in ((LOG_RADIUS, over[..., 0]), (BULGE_LOG_RADIUS, over[..., 1])):
        curvature[..., index, index] += (beyond > 0) / priors.largest_scatter**2
    penalty = penalty + _add_ratio(priors, sizes, gradient, curvature)
    return _add_index(priors, theta[..., LOG_INDEX], penalty, gradient, curvature)


def _add_ratio(
    priors: BulgeDiskPriors, log_radii: Tensor, gradient: Tensor, curvature: Tensor
) -> Tensor:
    """Return −ln p ``(n, K)`` of bulges that are too large, added to the derivatives."""
    over = (log_radii[..., 1] - log_radii[..., 0] - priors.most_log_ratio).clamp(min=0)
    stiffness = priors.ratio_wall**-2
    for one, sign in ((BULGE_LOG_RADIUS, 1), (LOG_RADIUS, -1)):
        gradient[..., one] += sign * stiffness * over
        for other, other_sign in ((BULGE_LOG_RADIUS, 1), (LOG_RADIUS, -1)):
            curvature[..., one, other] += sign * other_sign * stiffness * (over > 0)
    return 0.5 * stiffness * over**2


def _add_index(
    priors: BulgeDiskPriors,
    log_index: Tensor,
    penalty: Tensor,
    gradient: Tensor,
    curvature: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all with the prior on ln n ``(n, K)``: ln(1 + (ln n / width)²) and the walls."""
    room = priors.index_width**2 + log_index**2
    low, high = LOG_INDICES
    over = (log_index - log_index.clamp(low, high)) / priors.index_wall
    penalty = penalty + (room / priors.index_width**2).log() + 0.5 * over**2
    gradient[..., LOG_INDEX] += 2 * log_index / room + over / priors.index_wall
    curvature[..., LOG_INDEX, LOG_INDEX] += 2 / room + (over != 0) / priors.index_wall**2
    return penalty, gradient, curvature


def _whitening(priors: BulgeDiskPriors, theta: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return A ``(9, 9)`` and the mean ``(n, K, 9)`` of A theta, in standard deviations."""
    rows, usual = _rows(priors, theta.device, theta.dtype)
    mean = usual.expand(*theta.shape[:2], -1).clone()
    mean[..., POSITION] = start / priors.center
    return rows, mean


# Kept, so also for those who take derivatives through it.
@cache
@torch.inference_mode(False)
def _rows(
    priors: BulgeDiskPriors, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return A ``(9, 9)`` and the mean ``(9,)`` of A theta but for the position."""
    scatter = [priors.center, priors.center, priors.shape, priors.shape]
    scatter += [priors.log_radius_scatter, priors.log_ratio_scatter]
    scatter += [priors.alignment_scatter, priors.alignment_scatter, torch.inf]
    rows = torch.eye(PARAMETERS, dtype=torch.float64)
    rows[BULGE_LOG_RADIUS, LOG_RADIUS] = -1
    for bulge, disk in ((BULGE_G1, G1), (BULGE_G2, G2)):
        rows[bulge, disk] = -priors.alignment
    mean = torch.zeros(PARAMETERS, dtype=torch.float64)
    mean[LOG_RADIUS], mean[BULGE_LOG_RADIUS] = priors.log_radius, priors.log_ratio
    widths = torch.tensor(scatter, dtype=torch.float64)
    rows, mean = rows / widths[:, None], mean / widths
    return rows.to(device, dtype), mean.to(device, dtype)
