"""What was not observed, drawn for training: whole bands, and pixels under a mask.

Something stands in for it, as in the deblenders: another band of the stamp, and pixels near by
(`raydeblend.deblend.bands`, `raydeblend.deblend.preparation`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from raydeblend.deblend.preparation import PREPARATION

RADII = (1.0, 4.0)
"""Pixels of a masked disc: from a cosmic ray to the core of a saturated star."""
LINE_WIDTH = 2
"""Pixels to either side of the middle of a masked row, a bleed trail."""
ALL_BANDS = 0.5
"""Of the masks, which part is that of all bands."""


def draw_present(available: Tensor, fewer: float, generator: torch.Generator) -> Tensor:
    """Return which bands ``(n, bands)`` each of `n` stamps has: those available, or a part of them.

    A part `fewer` of the stamps has a random number of them, at least one.
    """
    n, device = len(available), available.device
    uniform = torch.rand(available.shape, generator=generator, device=device)
    rank = (uniform + ~available).argsort(dim=1).argsort(dim=1)
    count = available.sum(dim=1)
    part = (torch.rand(n, generator=generator, device=device) * count).long() + 1
    fewer_here = torch.rand(n, generator=generator, device=device) < fewer
    return available & (rank < torch.where(fewer_here, part, count)[:, None])


def stand_ins(present: Tensor, generator: torch.Generator) -> Tensor:
    """Return for each band ``(n, bands)`` the nearest that is present, itself if it is."""
    bands = torch.arange(present.shape[1], device=present.device)
    distance = (bands[:, None] - bands).abs() + torch.where(present, 0.0, torch.inf)[:, None]
    # Either of two that are as near.
    either = 0.5 * torch.rand(present.shape, generator=generator, device=present.device)
    return (distance + either[:, None]).argmin(dim=2)


def draw_masks(like: Tensor, masked: float, generator: torch.Generator) -> Tensor:
    """Return masks ``(n, bands, y, x)``: in a part `masked` of the stamps a disc and a row.

    The disc lies in the inner half of the stamp, where the galaxies are; the row is there in half
    of the masks. Half are those of all bands, half those of one.
    """
    (n, bands, side, _), device = like.shape, like.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    axis = torch.arange(side, device=device)
    middle = side * (0.25 + 0.5 * uniform(2, n, 1))
    radius = RADII[0] + (RADII[1] - RADII[0]) * uniform(n, 1, 1)
    away = axis - middle
    mask = away[0][:, :, None] ** 2 + away[1][:, None] ** 2 <= radius**2
    row = (axis - side * uniform(n, 1)).abs() <= LINE_WIDTH
    mask |= (row & (uniform(n, 1) < 0.5))[:, :, None]
    mask &= uniform(n, 1, 1) < masked
    one = F.one_hot(torch.randint(bands, (n,), generator=generator, device=device), bands).bool()
    shared = uniform(n, 1) < ALL_BANDS
    return mask[:, None] & (one | shared)[:, :, None, None]


def fill_masked(image: Tensor, mask: Tensor) -> Tensor:
    """Fill masked pixels with a Gaussian mean of those near them, else 0, as `prepare` does."""
    rows = mask.flatten(1).any(dim=1)
    if not rows.any():
        return image
    usable = (~mask[rows]).to(image.dtype)
    near = _smooth(usable)
    mean = torch.where(near > 1e-2, _smooth(image[rows] * usable) / near.clamp(min=1e-3), 0.0)
    filled = image.clone()
    filled[rows] = torch.where(mask[rows], mean, image[rows])
    return filled


def _smooth(image: Tensor) -> Tensor:
    """Convolve ``(n, bands, y, x)`` with a Gaussian of `PREPARATION.hole_sigma`."""
    reach = int(2.5 * PREPARATION.hole_sigma + 0.5)
    axis = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (axis / PREPARATION.hole_sigma) ** 2)
    kernel = (kernel / kernel.sum())[None, None]
    flat = F.pad(image.flatten(0, 1)[:, None], [reach] * 4, mode="reflect")
    smooth = F.conv2d(F.conv2d(flat, kernel[..., None]), kernel[:, :, None])
    return smooth.view(image.shape)
