"""Completeness, purity and flux errors of a catalog by magnitude, in a table of few columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from raydeblend.evaluate.common.metrics import flux_bias, flux_nmad
from raydeblend.evaluate.common.sky import between
from raydeblend.evaluate.common.tables import Table, number
from raydeblend.evaluate.survey.rows import MAGNITUDES
from raydeblend.evaluate.survey.scores import Bools, DetectionTable, GalaxyTable


@dataclass(frozen=True)
class MagnitudeBin:
    """The scores of one bin ``low <= magnitude < high`` in the reference band.

    Attributes
    ----------
    n_true, completeness
        True galaxies in the bin (true magnitude), and the fraction that has a catalog source.
    n_catalog, purity
        Catalog sources in the bin (measured magnitude), and the fraction that is a true source.
    duplicates
        Catalog sources of the bin without a match although a matched true source is in reach.
    density
        Catalog sources per square arcmin.
    bias, scatter
        By band: median and 1.4826 MAD of ``F / F_true - 1`` of the matched galaxies.
    """

    low: float
    high: float
    n_true: int
    completeness: float
    n_catalog: int
    purity: float
    duplicates: int
    density: float
    bias: dict[str, float]
    scatter: dict[str, float]


def magnitude_bins(
    galaxies: GalaxyTable,
    detections: DetectionTable,
    bands: Sequence[str],
    edges: Sequence[float] = MAGNITUDES,
) -> list[MagnitudeBin]:
    """Return the scores of each bin of magnitude, and at last those between the outer edges.

    Parameters
    ----------
    galaxies, detections
        Of `raydeblend.evaluate.survey.scores.compare`.
    bands
        Those of the fluxes; the last one is the reference band.
    edges
        AB magnitudes, ascending.
    """
    ranges = [*pairwise(edges), (edges[0], edges[-1])]
    return [_score_bin(low, high, galaxies, detections, bands) for low, high in ranges]


def _score_bin(
    low: float, high: float, galaxies: GalaxyTable, detections: DetectionTable, bands: Sequence[str]
) -> MagnitudeBin:
    true = galaxies.take(between(galaxies.magnitude, low, high))
    found = detections.take(between(detections.magnitude, low, high))
    return MagnitudeBin(
        low=low,
        high=high,
        n_true=len(true.magnitude),
        completeness=_fraction(true.found),
        n_catalog=len(found.magnitude),
        purity=_fraction(found.pure),
        duplicates=int(found.duplicate.sum()),
        density=len(found.magnitude) / detections.area,
        bias={band: flux_bias(true.error[:, i]) for i, band in enumerate(bands)},
        scatter={band: flux_nmad(true.error[:, i]) for i, band in enumerate(bands)},
    )


def _fraction(hits: Bools) -> float:
    return float(np.mean(hits)) if len(hits) else float("nan")


def magnitude_table(bins: Sequence[MagnitudeBin]) -> Table:
    """Return a line for each bin."""
    bands = list(bins[0].bias)
    header = ["mag", "true", "complete", "catalog", "pure", "duplicate", "per arcmin²"]
    header += [f"{name} {band}" for band in bands for name in ("bias", "scatter")]
    return Table(header, [_line(each, bands) for each in bins])


def _line(row: MagnitudeBin, bands: Sequence[str]) -> list[str]:
    cells = [f"{row.low:g}–{row.high:g}", str(row.n_true), number(row.completeness, ".1%")]
    cells += [str(row.n_catalog), number(row.purity, ".1%"), str(row.duplicates)]
    cells.append(f"{row.density:.1f}")
    for band in bands:
        cells += [number(row.bias[band], "+.3f"), number(row.scatter[band], ".3f")]
    return cells
