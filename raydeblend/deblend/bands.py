"""A network's bands and the user's: which stands for which, and models in all of the user's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.preparation import Prepared
from raydeblend.errors import ConfigError
from raydeblend.fit.amplitudes import fit_amplitudes
from raydeblend.tile import FloatArray

WAVELENGTHS = {"u": 368, "g": 486, "r": 625, "i": 756, "z": 870, "y": 972}
"""Effective wavelengths in nm, to find the nearest band that a network knows."""

LIKELIEST = "irgzyu"
"""Bands of surveys, the most often given first."""


def choose_bands(given: Sequence[str] | None, n_bands: int, known: Sequence[str]) -> list[int]:
    """Return which of the `given` bands stands for each of a network's `known` bands.

    A band that was not given is replaced by the nearest in wavelength.  Without names, as many
    bands as the network has are taken to be those, and any other number to be evenly spread.

    Raises
    ------
    ConfigError
        If the number of names is not that of the bands.
    """
    if given is None:
        return [int(b) for b in np.linspace(0, n_bands - 1, len(known)).round()]
    if len(given) != n_bands:
        raise ConfigError(f"{len(given)} bands are named but the images have {n_bands}")
    return [list(given).index(band) if band in given else _nearest(band, given) for band in known]


def likely_bands(n_bands: int) -> tuple[str, ...] | None:
    """Return the names that `n_bands` bands without names most likely have; None for too many."""
    likely = LIKELIEST[:n_bands]
    return tuple(sorted(likely, key=WAVELENGTHS.__getitem__)) if len(likely) == n_bands else None


def own_channels(given: Sequence[str], chosen: Sequence[int], known: Sequence[str]) -> list[int]:
    """Return one of a network's `known` bands for each of the user's that it is shown.

    That is the band itself, or the first that it stands for where the network does not know it.
    """
    first = {band: channel for channel, band in reversed(list(enumerate(chosen)))}
    own = {band: channel for channel, band in enumerate(chosen) if known[channel] == given[band]}
    return sorted((first | own).values())


def nearest_channels(chosen: Sequence[int], bands: int) -> list[int]:
    """Return the network's channel nearest to each of the user's `bands`, its own if it has one."""
    return [int(np.argmin([abs(band - other) for other in chosen])) for band in range(bands)]


def network_image(stamps: Prepared, chosen: Sequence[int]) -> FloatArray:
    """Pick the network's bands; one without usable pixels is replaced by another of the stamp."""
    bands = shown_bands(stamps, chosen)[:, :, None, None]
    return np.take_along_axis(stamps.image, bands, axis=1)


def shown_bands(stamps: Prepared, chosen: Sequence[int]) -> NDArray[np.intp]:
    """Return which of the user's bands each stamp shows ``(n, channels)`` to the network.

    Those `chosen`, but the nearest that is there for one without usable pixels.
    """
    bands = np.tile(np.asarray(chosen, dtype=np.intp), (len(stamps.image), 1))
    for row in np.flatnonzero(stamps.missing.any(axis=1)):
        there = np.flatnonzero(~stamps.missing[row])
        for channel, band in enumerate(chosen):
            if stamps.missing[row, band] and len(there):
                bands[row, channel] = there[np.argmin(np.abs(there - band))]
    return bands


def in_all_bands(models: FloatArray, stamps: Prepared, chosen: Sequence[int]) -> FloatArray:
    """Give each of the user's bands a model: the network's, or a template fitted to the band.

    A band that the network does not know takes the model of the nearest network band as its
    template.

    Parameters
    ----------
    models
        ``(n, k, bands, y, x)`` in the network's bands.
    chosen
        Which of the user's bands stands for each of the network's.
    """
    n_bands = stamps.image.shape[1]
    if list(chosen) == list(range(n_bands)) and not stamps.missing.any():
        return models
    templates = models[:, :, nearest_channels(chosen, n_bands)]
    amplitude = band_amplitudes(stamps.image, stamps.weight, templates, chosen)
    return np.asarray(templates * amplitude[..., None, None], dtype=np.float32)


def band_amplitudes(
    image: FloatArray, weight: FloatArray, templates: FloatArray, chosen: Sequence[int]
) -> NDArray[np.float64]:
    """Return the factor ``(n, k, bands)`` of each template ``(n, k, bands, y, x)``.

    1 in a band that the network knows, 0 in one without usable pixels, and by weighted least
    squares over all sources of the blend in any other.
    """
    fitted = fit_amplitudes(image, weight, templates)
    known = np.isin(np.arange(image.shape[1]), chosen) & (weight > 0).any(axis=(2, 3))
    return np.where(known[:, None], 1.0, fitted)


def _nearest(band: str, given: Sequence[str]) -> int:
    target = WAVELENGTHS.get(band, WAVELENGTHS["i"])
    distance = [abs(WAVELENGTHS.get(other, WAVELENGTHS["i"]) - target) for other in given]
    return int(np.argmin(distance))
