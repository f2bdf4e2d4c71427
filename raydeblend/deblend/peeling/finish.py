"""From what a network peeled off a batch to the sources of each stamp, in all bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from raydeblend.deblend.peeling.residual_correction import adjust_models
from raydeblend.deblend.peeling.second_pass import Network, refine
from raydeblend.deblend.sources import Sources, sources_of
from raydeblend.deblend.stamps import Stamps, nearest_channels
from raydeblend.deblend.templates import fit_amplitudes
from raydeblend.tile import FloatArray


def polish(
    stamps: Stamps,
    image: Tensor,
    peeled: Tensor,
    peaks: Sequence[NDArray[np.floating]],
    bands: Sequence[int],
    network: Network,
) -> list[Sources]:
    """Look again, give the user's other bands models, and correct those that pixels contradict.

    Parameters
    ----------
    stamps
        The batch, in the user's bands.
    image, peeled
        What the network saw, ``(n, bands, y, x)``, and its models ``(n, k, bands, y, x)``.
    peaks
        ``(m, 2)`` (x, y) of each stamp.
    bands
        Which of the user's bands stands for each of the network's.
    network
        From images to models of the brightest galaxy of each.

    Returns
    -------
    sources
        Of each stamp, in the unit of the user's images.
    """
    refined = refine(image, peeled, peaks, network).cpu().numpy()
    return [
        (adjust_models(pixels, weight, found, bands) * sigma, xy)
        for pixels, weight, sigma, (found, xy) in zip(
            stamps.image,
            stamps.weight,
            stamps.sigma,
            map(sources_of, in_all_bands(refined, stamps, bands), stamps.weight),
            strict=True,
        )
    ]


def in_all_bands(models: FloatArray, stamps: Stamps, bands: Sequence[int]) -> FloatArray:
    """Give each band of the user's a model: the network's, or a template fitted to the band.

    A band that the network does not know takes the model of the nearest network band as its
    template, with amplitudes by weighted least squares over all sources of the blend; one without
    usable pixels gets none.
    """
    n_bands = stamps.image.shape[1]
    if list(bands) == list(range(n_bands)) and not stamps.missing.any():
        return models
    templates = models[:, :, nearest_channels(bands, n_bands)]
    fitted = fit_amplitudes(stamps.image, stamps.weight, templates)
    known = np.array([band in bands for band in range(n_bands)])
    own = known & ~stamps.missing
    amplitude = np.where(own[:, None], 1.0, np.where(stamps.missing[:, None], 0.0, fitted))
    return np.asarray(templates * amplitude[..., None, None], dtype=np.float32)
