"""All that the page says of a catalog's rows, gathered in one pass over its shards."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydeblend.draw.finished import Finished
from raydeblend.draw.maps import CellStatistics, read_cells
from raydeblend.draw.report.area import owned_parts
from raydeblend.draw.report.colors import Colors
from raydeblend.draw.report.failures import FlagCounts
from raydeblend.draw.report.magnitudes import NumberCounts, stars_among
from raydeblend.draw.report.star_sizes import BrightStars
from raydeblend.draw.report.worst_blends import WorstBlends

ARCMIN2_PER_DEG2 = 3600.0


@dataclass
class Tally:
    """What is gathered; all but `cells` is bounded whatever the survey's size.

    Attributes
    ----------
    cells
        Statistics of every cell, without its rows.
    area
        In square arcminutes, of the cells that are done, where tiles overlap counted once.
    rows, primary, stars, blended
        Rows of the catalog; of those in the tile that owns the place; of these the stars, and
        those that share their footprint.
    """

    counts: NumberCounts
    colors: Colors
    worst: WorstBlends
    bright: BrightStars = field(default_factory=BrightStars)
    flags: FlagCounts = field(default_factory=FlagCounts)
    cells: list[CellStatistics] = field(default_factory=list)
    area: float = 0.0
    rows: int = 0
    primary: int = 0
    stars: int = 0
    blended: int = 0

    def add(self, rows: pa.Table) -> None:
        """Add the rows of a shard."""
        self.rows += len(rows)
        self.flags.add(rows)
        own = rows.filter(pc.field("is_primary"))
        self.primary += len(own)
        self.stars += int(stars_among(own).sum())
        self.blended += int(np.count_nonzero(own["n_blended"].to_numpy() > 1))
        for part in (self.counts, self.colors, self.worst, self.bright):
            part.add(own)

    @property
    def square_degrees(self) -> float:
        """The area in square degrees."""
        return self.area / ARCMIN2_PER_DEG2

    def depth(self, band: int) -> float:
        """Return the median depth of the cells in one band; NaN where none has any."""
        depth = np.array([cell.depth[band] for cell in self.cells])
        known = depth[np.isfinite(depth)]
        return float(np.median(known)) if len(known) else np.nan


def tally_catalog(finished: Finished, n_worst: int) -> Tally:
    """Read the shards of a run, a few at a time."""
    bands, parts = finished.run.bands, owned_parts(finished.headers)
    tally = Tally(NumberCounts(bands), Colors(bands), WorstBlends(n_worst))
    for cell, rows in read_cells(finished):
        tally.cells.append(cell)
        if rows is not None:
            tally.area += cell.area * parts[cell.tile]
            tally.add(rows)
    return tally
