"""A cell once its footprints are found, as it goes to the deblender."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.inject.sources import InjectedSources
from raydeblend.pipeline.cell_state import CellState
from raydeblend.pipeline.plan import CellTask
from raydeblend.psf import TilePsf
from raydeblend.tile import Blend, FloatArray


@dataclass(frozen=True)
class CellPixels:
    """The inner region of a cell, where images of it are saved.

    Attributes
    ----------
    image
        ``(bands, y, x)`` in nJy, NaN where unusable.
    labels
        ``(y, x)`` which of `parents` a pixel belongs to, 1 for the first and 0 for none.
    parents
        Identifiers of footprints.
    """

    image: FloatArray
    labels: NDArray[np.int32]
    parents: tuple[int, ...]


@dataclass(frozen=True)
class Injection:
    """The copy of a cell with injected sources, on its way through the stages.

    Attributes
    ----------
    state
        What the last stage made of the copy; at the end the table of injected sources.
    sources
        What was injected; None if that failed.
    """

    state: CellState
    sources: InjectedSources | None

    @property
    def has_sources(self) -> bool:
        """Whether there is anything to look at."""
        return self.sources is not None and len(self.sources) > 0


@dataclass(frozen=True)
class Detected:
    """The footprints of a cell that reach into its inner region, and the PSF by place.

    Attributes
    ----------
    noise
        Of each band, on the scale of sources over that of independent pixels; its square is in the
        variance of `blends`.  NaN where not known, empty if not measured.
    work_factor
        By how much the deblender's limits of work are larger than usual.
    pixels
        Where images are saved.
    injection
        The copy of the cell with injected sources, if there is one.
    seen
        What is seen in the pixels, see `raydeblend.checks`.
    unusable
        Part of the pixels of the inner region that are usable in no band.
    """

    task: CellTask
    blends: tuple[Blend, ...]
    psf: TilePsf
    noise: tuple[float, ...] = ()
    work_factor: float = 1.0
    pixels: CellPixels | None = None
    injection: Injection | None = None
    seen: CellState | None = None
    unusable: float = 0.0

    def psf_of(self, blend: Blend) -> tuple[FloatArray, ...]:
        """Return the stamp of each band at a footprint's brightest peak."""
        return self.psf.stamps(self.key_of(blend))

    def key_of(self, blend: Blend) -> tuple[int, ...]:
        """Return the same for all footprints at whose brightest peaks the stamps are."""
        return self.psf.keys(blend.on_tile(blend.xy[:1]))[0]
