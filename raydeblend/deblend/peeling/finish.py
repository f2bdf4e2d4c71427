"""What the RDN and the branched network share: the image to peel, and how peels become sources."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydeblend.deblend.bands import in_all_bands, network_image
from raydeblend.deblend.base import Batch
from raydeblend.deblend.holes import fill_from_models
from raydeblend.deblend.peaks import stamp_peaks
from raydeblend.deblend.peeling.pieces import join_pieces
from raydeblend.deblend.peeling.residual_correction import correct_residuals
from raydeblend.deblend.peeling.second_pass import Brightest, second_pass
from raydeblend.deblend.sources import select_sources
from raydeblend.tile import FloatArray

Found = tuple[FloatArray, FloatArray]
"""Models ``(k, bands, y, x)`` in the user's unit and positions ``(k, 2)`` of one stamp."""


def image_to_peel(
    batch: Batch, device: torch.device, peel: Callable[..., Tensor], *others: Tensor
) -> Tensor:
    """Return ``(n, bands, y, x)``, whose holes hold what `peel` makes of them: the models' light.

    `peel` is from such images, and `others`, to models ``(n, k, bands, y, x)``.
    """
    image = network_image(batch.stamps, batch.channels)

    def light(rows: NDArray[np.intp]) -> FloatArray:
        shown = torch.from_numpy(image[rows]).to(device)
        models = peel(shown, *(other[rows] for other in others))
        return np.asarray(models.sum(dim=1).cpu().numpy())

    filled = fill_from_models(image, batch.stamps.holes[:, batch.channels], light)
    return torch.from_numpy(filled).to(device)


def finish(
    batch: Batch, image: Tensor, peeled: Tensor, network: Brightest, *others: Tensor
) -> list[Found]:
    """Deblend again, give the user's other bands models, and mend what the pixels contradict.

    These are pieces of galaxies (`pieces`), and what is left of the image (`residual_correction`).

    Parameters
    ----------
    image, peeled
        What the network saw, ``(n, bands, y, x)``, and its models ``(n, k, bands, y, x)``.
    network, others
        From images, and these, to models of the brightest galaxy of each.
    """
    stamps = batch.stamps
    pixels = zip(stamps.image, stamps.weight, batch.psf_widths, strict=True)
    peaks = [stamp_peaks(*each) for each in pixels]
    models = second_pass(image, peeled, peaks, network, *others)[:, :, batch.own].cpu().numpy()
    channels = [batch.channels[k] for k in batch.own]
    selected = map(select_sources, in_all_bands(models, stamps, channels), stamps.weight)
    joined = join_pieces(batch.call, list(selected), peaks, image.device)
    return [
        (correct_residuals(own, weight, found, channels) * sigma, xy)
        for own, weight, sigma, (found, xy) in zip(
            stamps.image, stamps.weight, stamps.sigma, joined, strict=True
        )
    ]
