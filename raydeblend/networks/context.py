"""What a network may see besides the scaled image: which pixels to trust, and the PSF.

Of each band there are two planes, after those of `raydeblend.networks.scaling`: 1 where a pixel was
not observed and something stands in for it (a masked pixel filled from others, a band that was not
taken replaced by another), and the PSF's width.
"""

from __future__ import annotations

import torch
from torch import Tensor

PLANES = 2
"""Of each band."""
USUAL_WIDTH = 1.7
"""Pixels (sigma) of the PSF at which its plane is zero: LSST's r band in median seeing."""


def context_planes(unobserved: Tensor, psf_width: Tensor) -> Tensor:
    """Return the planes ``(n, 2 bands, y, x)``.

    Parameters
    ----------
    unobserved
        ``(n, bands, y, x)``, true where the pixel was replaced.
    psf_width
        ``(n, bands)`` standard deviation in pixels of a Gaussian as high as the PSF, of the band
        whose pixels are shown.
    """
    width = torch.log(psf_width / USUAL_WIDTH)[:, :, None, None]
    return torch.cat([unobserved.to(width.dtype), width.expand(unobserved.shape)], dim=1)
