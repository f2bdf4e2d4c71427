"""The galaxies of a blend: which sources of the fit belong together, and their light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.tile import FloatArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Galaxies:
    """m galaxies, the brightest first, each of one or more of the k sources of a fit.

    Attributes
    ----------
    part_of
        ``(k,)`` the galaxy of each source.
    brightest
        ``(m,)`` the brightest source of each.
    models
        ``(m, bands, y, x)``.
    """

    part_of: NDArray[np.intp]
    brightest: NDArray[np.intp]
    models: FloatArray

    @classmethod
    def of(cls, chosen: NDArray[np.intp], models: FloatArray, light: Array) -> Galaxies:
        """Return the galaxies of sources ``(k,)`` that name the brightest source of theirs.

        Parameters
        ----------
        models, light
            ``(k, bands, y, x)`` and ``(k,)``, the flux of all bands.
        """
        brightest, part_of = np.unique(chosen, return_inverse=True)
        order = np.argsort(-np.bincount(part_of, light, len(brightest)), kind="stable")
        part_of = np.argsort(order)[part_of]
        whole = np.zeros((len(order), *models.shape[1:]), dtype=models.dtype)
        np.add.at(whole, part_of, models)
        return cls(part_of, brightest[order], whole)

    def sums(self, values: Array) -> Array:
        """Return the sums ``(m, ...)`` over the sources of each galaxy of values ``(k, ...)``."""
        out = np.zeros((len(self.brightest), *values.shape[1:]))
        np.add.at(out, self.part_of, values)
        return out
