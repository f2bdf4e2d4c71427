"""What the RDN and the branched network share: the image to peel, and how peels become sources."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from raydeblend.deblend.bands import in_all_bands, network_image
from raydeblend.deblend.base import Batch
from raydeblend.deblend.holes import fill_from_models
from raydeblend.deblend.peaks import stamp_peaks
from raydeblend.deblend.peeling.residual_correction import correct_residuals
from raydeblend.deblend.peeling.second_pass import Brightest, second_pass
from raydeblend.deblend.sources import select_sources
from raydeblend.tile import FloatArray

MODEL_FLOOR = 0.01
"""Sky sigmas below which a model is zero: the networks' own floor, which thousands of dark pixels
would add up to some percent of a faint galaxy's flux."""

Found = tuple[FloatArray, FloatArray]
"""Models ``(k, bands, y, x)`` in the user's unit and positions ``(k, 2)`` of one stamp."""


def image_to_peel(batch: Batch, device: torch.device, peel: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``(n, bands, y, x)``, whose holes hold what `peel` makes of them: the models' light.

    `peel` is from such images to models ``(n, k, bands, y, x)``.
    """

    def light(image: FloatArray) -> FloatArray:
        models = peel(torch.from_numpy(image).to(device))
        return np.asarray(models.sum(dim=1).cpu().numpy())

    image = network_image(batch.stamps, batch.channels)
    filled = fill_from_models(image, batch.stamps.holes[:, batch.channels], light)
    return torch.from_numpy(filled).to(device)


def finish(batch: Batch, image: Tensor, peeled: Tensor, network: Brightest) -> list[Found]:
    """Deblend again, give the user's other bands models, and correct those that pixels contradict.

    Parameters
    ----------
    image, peeled
        What the network saw, ``(n, bands, y, x)``, and its models ``(n, k, bands, y, x)``.
    network
        From images to models of the brightest galaxy of each.
    """
    stamps = batch.stamps
    pixels = zip(stamps.image, stamps.weight, batch.psf_widths, strict=True)
    peaks = [stamp_peaks(*each) for each in pixels]
    models = second_pass(image, peeled, peaks, network).cpu().numpy()
    selected = map(select_sources, in_all_bands(models, stamps, batch.channels), stamps.weight)
    return [
        (correct_residuals(own, weight, found, batch.channels) * sigma, xy)
        for own, weight, sigma, (found, xy) in zip(
            stamps.image, stamps.weight, stamps.sigma, selected, strict=True
        )
    ]
