"""The PSF stamps that a measurement is given: for all alike, or for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from raydeblend.errors import ConfigError

Psf = Sequence[ArrayLike]
"""One stamp ``(py, px)`` per band."""


def psf_of_each(psf: Psf | Sequence[Psf], n: int, what: str) -> Sequence[Psf]:
    """Return the PSF stamps of each of n blends or sources, as `what` calls them.

    Raises
    ------
    ConfigError
        If there are stamps for another number of them.
    """
    if not (len(psf) and _is_sequence_of_stamps(psf[0])):
        return [cast(Psf, psf)] * n
    if len(psf) != n:
        raise ConfigError(f"psf has stamps for {len(psf)} {what}, but there are {n}")
    return cast(Sequence[Psf], psf)


def _is_sequence_of_stamps(entry: ArrayLike | Psf) -> bool:
    """Tell the stamps of a blend, which may differ in size, from one stamp ``(py, px)``."""
    if isinstance(entry, np.ndarray):
        return entry.ndim == 3
    return isinstance(entry, Sequence) and len(entry) > 0 and np.ndim(entry[0]) == 2
