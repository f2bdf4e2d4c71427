"""A catalog against the truth it was simulated from: completeness, purity and flux errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend.evaluate.common.metrics import flux_bias, flux_nmad
from raydeblend.evaluate.common.sky import RADIUS, Pairing, between, pair_catalog, primary
from raydeblend.evaluate.common.tables import markdown, number

DEFAULT_EDGES = (18.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0)


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


def score_catalog(
    catalog: pa.Table,
    truth: pa.Table,
    bands: Sequence[str],
    edges: Sequence[float] = DEFAULT_EDGES,
    radius: float = RADIUS,
) -> list[MagnitudeBin]:
    """Score the primary sources of a catalog.

    Sources are matched one to one on the sky, the brightest true source choosing first, so that
    a faint neighbour does not take its detection.  Stars, and what lies beyond the edges, are
    matched too, but completeness and flux errors are those of the galaxies in the rectangle that
    the catalog covers.

    Parameters
    ----------
    catalog
        With the columns ``ra, dec, is_primary`` and ``flux_<band>`` (nJy, may be null).
    truth
        With the columns ``ra, dec, is_star`` and ``flux_<band>`` (nJy).
    bands
        The last one is the reference band of the magnitude bins.
    edges
        Bin edges in AB magnitude, ascending.
    radius
        Arcsec.

    Returns
    -------
    One row per bin and a last one over all magnitudes between the outer edges.

    Raises
    ------
    ConfigError
        If the catalog has no primary source.
    """
    pairing = pair_catalog(primary(catalog), truth, bands, radius)
    ranges = [*pairwise(edges), (edges[0], edges[-1])]
    return [_score_bin(low, high, pairing, bands) for low, high in ranges]


def _score_bin(low: float, high: float, pairing: Pairing, bands: Sequence[str]) -> MagnitudeBin:
    found, true, match = pairing.found, pairing.true, pairing.match
    truths = between(true.magnitude(-1), low, high) & pairing.counted
    sources = between(found.magnitude(-1), low, high)
    matched = truths & (match >= 0)
    error = found.flux[match[matched]] / true.flux[matched] - 1
    return MagnitudeBin(
        low=low,
        high=high,
        n_true=int(truths.sum()),
        completeness=_fraction(matched, truths),
        n_catalog=int(sources.sum()),
        purity=_fraction(sources & np.isin(np.arange(len(sources)), match), sources),
        duplicates=int((sources & pairing.duplicated).sum()),
        density=float(sources.sum()) / found.area,
        bias={band: flux_bias(error[:, i]) for i, band in enumerate(bands)},
        scatter={band: flux_nmad(error[:, i]) for i, band in enumerate(bands)},
    )


def _fraction(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else float("nan")


def format_table(rows: Sequence[MagnitudeBin]) -> str:
    """Return the scores as a Markdown table; the last row is over all magnitudes."""
    bands = list(rows[0].bias)
    header = ["mag", "true", "complete", "catalog", "pure", "duplicate", "per arcmin²"]
    header += [f"{name} {band}" for band in bands for name in ("bias", "scatter")]
    return markdown(header, [_line(row, bands) for row in rows])


def _line(row: MagnitudeBin, bands: Sequence[str]) -> list[str]:
    cells = [f"{row.low:g}–{row.high:g}", str(row.n_true), number(row.completeness, ".1%")]
    cells += [str(row.n_catalog), number(row.purity, ".1%"), str(row.duplicates)]
    cells.append(f"{row.density:.1f}")
    for band in bands:
        cells += [number(row.bias[band], "+.3f"), number(row.scatter[band], ".3f")]
    return cells
