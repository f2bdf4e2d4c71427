"""What one more source would gain, to first order, without fitting it.

Rao's score test (Rao 1948, Proc. Camb. Phil. Soc. 44, 50): about the best fit, ln likelihood is
quadratic in the fluxes of a new source once all that the fit already has may follow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raydeblend.fit.scene import Scene, model_at
from raydeblend.fit.scene_fit import state_of

# Least norm of a source in a band, relative to the one that shows it best: a flux that a band can
# hardly tell must not decide whether their sum is positive.
_SHOWN = 0.01
# Relative to a template's norm: keeps what the fit can take over wholly from being a small
# number over another.
_RIDGE = 1e-3


def score_gains(scene: Scene, theta: Tensor, scale: Tensor, xy: Tensor, width: float) -> Tensor:
    """Return what ln L would gain by another source at each position, ``(n, m)``.

    Parameters
    ----------
    theta
        ``(n, K, 9)``, a fit of the scene.
    scale
        ``(n, b, K)`` its fluxes, positive.
    xy
        ``(n, m, 2)``; each is asked for itself.
    width
        Standard deviation in pixels of the Gaussian that stands for the source in all bands; its
        fluxes are free, and their sum must be positive.
    """
    model = model_at(scene, theta, scale)
    state = state_of(scene, theta, scale, model)
    offset = scene.pixels[:, None] - xy[..., None].to(scene.pixels)
    image = (-0.5 * (offset**2).sum(2) / width**2).exp()[:, None]  # (n, 1, m, p)
    weighted = image * scene.weight[:, :, None]
    by_flux = (weighted @ model.unit.transpose(2, 3)).double()
    by_theta = (weighted @ model.slopes.transpose(2, 3)).double() + by_flux @ state.cross
    pull = (weighted @ model.residual[..., None])[..., 0].double().transpose(1, 2)  # (n, m, b)
    norm = (weighted * image).sum(3).double()
    norm = torch.where(norm > 0, torch.maximum(norm, _SHOWN * norm.amax(1, keepdim=True)), norm)
    left = (1 + _RIDGE) * norm - (by_flux @ state.flux_cov * by_flux).sum(3)
    left = torch.where(norm > 0, left, 1.0)
    spread = torch.linalg.inv_ex(state.curvature).inverse
    taken = torch.einsum("nbmi,nij,ncmj->nmbc", by_theta, spread, by_theta)
    matrix = torch.diag_embed(left.transpose(1, 2)) - taken
    flux = torch.linalg.solve_ex(matrix, pull[..., None]).result[..., 0]
    gain = 0.5 * (flux * pull).sum(2)
    return torch.where((flux.sum(2) > 0) & (gain > 0) & gain.isfinite(), gain, 0.0)
