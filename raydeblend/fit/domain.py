"""Where the shapes of sources may be, in torch: see `compiled.domain`."""

from __future__ import annotations

import torch
from torch import Tensor

from raydeblend.fit.compiled.domain import HELD, LONGEST_BULGE, LONGEST_DISK
from raydeblend.fit.parameters import BULGE_SHEAR, LOG_INDEX, SHEAR
from raydeblend.fit.sersic import LOG_INDICES

_LONGEST = ((SHEAR, LONGEST_DISK), (BULGE_SHEAR, LONGEST_BULGE))


def held(theta: Tensor, gradient: Tensor) -> Tensor:
    """Tell which parameters ``(..., 9)`` stay: shears that would go beyond their bound."""
    out = torch.zeros_like(theta, dtype=torch.bool)
    for shear, most in _LONGEST:
        own = theta[..., shear]
        outwards = (own * gradient[..., shear]).sum(-1) < 0
        out[..., shear] = (outwards & (own.norm(dim=-1) > HELD * most))[..., None]
    return out


def limited(theta: Tensor, largest: Tensor, step: Tensor) -> Tensor:
    """Return steps ``(..., 9)``, as large as allowed, `largest` ``(9,)`` at most."""
    step = step.clamp(-largest, largest)
    least, most = (bound - theta[..., LOG_INDEX] for bound in LOG_INDICES)
    step[..., LOG_INDEX] = step[..., LOG_INDEX].clamp(least, most)
    for shear, longest in _LONGEST:
        own = theta[..., shear] + step[..., shear]
        size = own.norm(dim=-1, keepdim=True)
        shorter = own * longest / size - theta[..., shear]
        step[..., shear] = torch.where(size > longest, shorter, step[..., shear])
    return step
