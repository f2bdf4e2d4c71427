"""How fitted shapes follow a shear of the sky, in torch: see `compiled.shear`."""

from __future__ import annotations

import torch
from torch import Tensor

from raydeblend.fit.parameters import PARAMETERS, SHAPES
from raydeblend.fit.priors import log_prior
from raydeblend.fit.scene import Scene
from raydeblend.fit.scene_fit import SceneState


def true_response(theta: Tensor) -> Tensor:
    """Return how the shapes ``(..., 9)`` follow a shear of the sky, ``(..., 9, 2)``."""
    out = theta.new_zeros(*theta.shape, 2)
    for first, second, _ in SHAPES:
        g1, g2 = theta[..., first], theta[..., second]
        out[..., first, 0], out[..., second, 1] = 1 - g1**2 + g2**2, 1 + g1**2 - g2**2
        out[..., first, 1] = out[..., second, 0] = -2 * g1 * g2
    return out


def shear_response(scene: Scene, state: SceneState) -> Tensor:
    """Return the derivatives of theta by a shear of the whole sky, ``(n, K, 9, 2)``."""
    covariance, _ = torch.linalg.inv_ex(state.curvature)
    _, _, stiffness = log_prior(scene.priors, state.theta, scene.start, scene.compact)
    truth = true_response(state.theta)
    held = (stiffness @ truth).flatten(1, 2)
    return truth - torch.unflatten(covariance @ held, 1, (-1, PARAMETERS))


def rest_of(state: SceneState) -> Tensor:
    """Return the undamped step from theta ``(n, K, 9)``, to first order."""
    step = torch.linalg.solve_ex(state.curvature, -state.gradient).result
    return torch.unflatten(step, 1, (-1, PARAMETERS))
