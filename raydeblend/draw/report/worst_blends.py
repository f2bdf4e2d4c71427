"""The blends that the models fit worst, and pictures of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raydeblend.draw.blend_figure import blend_figure
from raydeblend.draw.finished import Finished, find_source
from raydeblend.draw.inspect import take_apart
from raydeblend.errors import ConfigError, TileError
from raydeblend.evaluate.common.figures import to_png
from raydeblend.flags import Flag

LEFT_OUT = Flag.SATURATED
"""Of these it is known why no model fits."""
MOST_MODELS = 6
"""Of a blend, drawn on their own."""
MOST_SOURCES = 40
"""In a footprint that is drawn: it is deblended again for it."""


@dataclass(frozen=True, order=True)
class Blend:
    """A footprint by its worst source."""

    chi2: float
    parent_id: int
    source_id: int
    n_blended: int


@dataclass(frozen=True)
class Picture:
    """A blend that was drawn, or why it could not be (`png` is empty)."""

    blend: Blend
    png: bytes
    reason: str = ""


class WorstBlends:
    """Keeps the footprints of several sources with the largest chi2, one entry each."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[int, Blend] = {}

    def add(self, rows: pa.Table) -> None:
        """Offer rows."""
        n = rows["n_blended"].to_numpy()
        chi2 = rows["chi2"].to_numpy()
        good = (n > 1) & (n <= MOST_SOURCES) & np.isfinite(chi2)
        good &= (rows["flags"].to_numpy() & int(LEFT_OUT)) == 0
        numbers = [rows[name].to_numpy()[good].tolist() for name in ("parent_id", "source_id")]
        for blend in map(Blend, chi2[good].tolist(), *numbers, n[good].tolist()):
            earlier = self._kept.get(blend.parent_id)
            self._kept[blend.parent_id] = blend if earlier is None else max(blend, earlier)
        self._kept = {blend.parent_id: blend for blend in self.blends}

    @property
    def blends(self) -> Sequence[Blend]:
        """The worst, the worst of them first."""
        return heapq.nlargest(self.size, self._kept.values())


def draw_blends(finished: Finished, blends: Sequence[Blend]) -> Iterator[Picture]:
    """Deblend the footprints once more and draw them; without their tile there is a reason."""
    for blend in blends:
        try:
            seen = take_apart(finished, find_source(finished, str(blend.source_id)))
            yield Picture(blend, to_png(blend_figure(seen, MOST_MODELS)))
        except (ConfigError, TileError, OSError) as error:
            yield Picture(blend, b"", str(error))
