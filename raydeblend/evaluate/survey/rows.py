"""The numbers of the protocol `survey`: by magnitude, blendedness and separation, and in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.rows import Row, fixed_first, flux_columns, fraction, measured
from raydeblend.evaluate.common.sky import between
from raydeblend.evaluate.survey.scores import FAR_PULL, DetectionTable, GalaxyTable
from raydeblend.evaluate.survey.stars import StarTable, star_rows

PROTOCOL = "survey"
MAGNITUDE, BLENDEDNESS, SEPARATION, ALL = "magnitude", "blendedness", "separation", "all"
QUALITY, PAIRS, STARS = "quality", "pairs", "stars"
MAGNITUDES = (18.0, 20.0, 21.0, 22.0, 23.0, 24.0, 24.5, 25.0, 25.5, 26.0)
BLENDEDNESSES = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
SEPARATIONS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, np.inf)
PAIR_SEPARATIONS = (0.2, 0.35, 0.5, 0.7, 1.0, 1.5)
QUALITIES = ("isolated", "high", "medium", "low", "none")
QUALITY_DEPTH = 25.0
"""Magnitude to which scores by quality go."""
DEPTH = 24.5
"""Magnitude to which scores by blendedness and separation go, and those over all galaxies."""
SHAPE_DEPTH = 23.5
"""Magnitude to which shapes are compared: fainter ones are mostly their prior."""

Floats = NDArray[np.float64]


def make_rows(
    deblender: str,
    galaxies: GalaxyTable,
    detections: DetectionTable,
    bands: Sequence[str],
    seconds: float,
) -> list[Row]:
    """Return the rows of one deblender; `seconds` are wall time per catalog source."""
    deep = galaxies.take(galaxies.magnitude < DEPTH)
    cases = [
        *_cases(MAGNITUDE, MAGNITUDES, galaxies, galaxies.magnitude),
        *_cases(BLENDEDNESS, BLENDEDNESSES, deep, deep.blendedness),
        *_cases(SEPARATION, SEPARATIONS, deep, deep.separation),
        (ALL, (-np.inf, DEPTH), deep),
    ]
    rows = [
        _row(
            deblender,
            by,
            label(by, limits),
            limits,
            galaxy_columns(table, bands)
            | _detection_columns(by, limits, detections)
            | (shape_columns(galaxies) | astrometry_columns(table) if by == ALL else {}),
            len(table.magnitude),
            seconds,
        )
        for by, limits, table in cases
    ]
    return [*rows, *_quality_rows(deblender, galaxies, bands, seconds)]


def _quality_rows(
    deblender: str, galaxies: GalaxyTable, bands: Sequence[str], seconds: float
) -> Iterator[Row]:
    """Yield the rows of the bright galaxies by the quality that the catalog states."""
    bright, limits = galaxies.take(galaxies.magnitude < QUALITY_DEPTH), (-np.inf, QUALITY_DEPTH)
    for quality in QUALITIES:
        table = bright.take(bright.quality == quality)
        if n := len(table.magnitude):
            columns = galaxy_columns(table, bands)
            yield _row(deblender, QUALITY, quality, limits, columns, n, seconds)


def pair_rows(
    deblender: str, galaxies: GalaxyTable, bands: Sequence[str], seconds: float
) -> list[Row]:
    """Return the rows of the close pairs, by distance."""
    return [
        _row(
            deblender,
            PAIRS,
            label(SEPARATION, limits),
            limits,
            galaxy_columns(table, bands),
            len(table.magnitude),
            seconds,
        )
        for _, limits, table in _cases(PAIRS, PAIR_SEPARATIONS, galaxies, galaxies.separation)
    ]


def make_star_rows(deblender: str, table: StarTable, seconds: float) -> list[Row]:
    """Return the rows of the stars, by magnitude."""
    nothing = (np.nan, np.nan)
    return [
        _row(deblender, STARS, name, nothing, _no_flux() | columns, n, seconds)
        for name, n, columns in star_rows(table)
    ]


def _row(
    deblender: str,
    by: str,
    name: str,
    limits: tuple[float, float],
    columns: Row,
    n: int,
    seconds: float,
) -> Row:
    return fixed_first(
        {
            "protocol": PROTOCOL,
            "deblender": deblender,
            "n_galaxies": by,
            "galaxy": name,
            "n": n,
            "low": limits[0],
            "high": limits[1],
            "psnr_mean": np.nan,
            "psnr_median": np.nan,
            "ssim_mean": np.nan,
            "ssim_median": np.nan,
            **columns,
            "seconds_per_blend": seconds,
        }
    )


def _cases(
    by: str, edges: Sequence[float], table: GalaxyTable, values: Floats
) -> list[tuple[str, tuple[float, float], GalaxyTable]]:
    return [
        (by, (low, high), table.take(between(values, low, high))) for low, high in pairwise(edges)
    ]


def label(by: str, limits: tuple[float, float]) -> str:
    """Return the name of a bin, as ``magnitude 22–23``."""
    low, high = limits
    if not np.isfinite(low):
        return f"magnitude < {high:g}"
    unit = '"' if by == SEPARATION else ""
    return f"{by} > {low:g}{unit}" if np.isinf(high) else f"{by} {low:g}–{high:g}{unit}"


def galaxy_columns(table: GalaxyTable, bands: Sequence[str]) -> Row:
    """Return completeness, flux errors and pulls; the fixed columns are the reference band's."""
    columns = flux_columns(table.error[:, -1]) if len(table.error) else _no_flux()
    # A galaxy may be found and its flux null.
    columns |= fraction("found", table.found) if len(table.found) else {}
    columns |= _catastrophe_columns(table.take(table.measured))
    for i, band in enumerate(bands):
        columns |= _if_any(f"flux_bias_{band}", table.error[:, i], metrics.found_median)
        columns |= _if_any(f"flux_nmad_{band}", table.error[:, i], metrics.found_nmad)
        columns |= _if_any(f"pull_bias_{band}", table.pull[:, i], metrics.found_median)
        columns |= _if_any(f"pull_nmad_{band}", table.pull[:, i], metrics.found_nmad)
    return columns


def _catastrophe_columns(table: GalaxyTable) -> Row:
    """Return which part of the measured is far off, and how much of that no flag tells."""
    hits = {
        "beyond_5_sigma": np.abs(table.pull[:, -1]) > FAR_PULL,
        "catastrophic": table.catastrophic,
        "catastrophic_flagged": table.catastrophic & table.flagged,
        "catastrophic_unflagged": table.catastrophic & ~table.flagged,
    }
    columns: Row = {}
    for name, each in hits.items():
        columns |= fraction(name, each) if len(each) else _if_any(name, np.zeros(0), np.mean)
    return columns


def _no_flux() -> Row:
    names = ("flux_bias", "flux_nmad", "flux_mape", "found")
    return {f"{name}{end}": np.nan for name in names for end in ("", "_low", "_high")}


def _if_any(name: str, values: Floats, statistic: Any) -> Row:
    """Return a number and its limits; NaN of nothing."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {f"{name}{end}": np.nan for end in ("", "_low", "_high")}
    return measured(name, known, statistic)


def _detection_columns(by: str, limits: tuple[float, float], table: DetectionTable) -> Row:
    """Return purity, duplicates and unrecognized blends by measured magnitude."""
    if by not in (MAGNITUDE, ALL):
        return {}
    part = table.take(between(table.magnitude, *limits))
    columns: Row = {"n_catalog": len(part.pure)}
    names = {"purity": part.pure, "spurious": ~part.pure, "duplicates": part.duplicate}
    names["unrecognized"] = part.unrecognized[part.pure]
    for name, hits in names.items():
        columns |= fraction(name, hits) if len(hits) else _if_any(name, np.zeros(0), np.mean)
    return columns


def astrometry_columns(table: GalaxyTable) -> Row:
    """Return the median offset east and north and the scatter of one coordinate, in mas."""
    offset = 1000 * table.offset[table.found]
    columns = _if_any("offset_east_mas", offset[:, 0], metrics.found_median)
    columns |= _if_any("offset_north_mas", offset[:, 1], metrics.found_median)
    centered = offset - np.median(offset, axis=0) if len(offset) else offset
    return columns | _if_any("position_nmad_mas", centered.ravel(), metrics.found_nmad)


def shape_columns(table: GalaxyTable) -> Row:
    """Return the multiplicative and additive bias of both shears, g = (1 + m) g_true + c."""
    bright = table.take(table.magnitude < SHAPE_DEPTH)
    columns: Row = {}
    for i in (0, 1):
        pairs = np.stack([bright.g_true[:, i], bright.g[:, i]], axis=-1)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        for name, statistic in (("m", slope_bias), ("c", intercept)):
            key = f"shape_{name}{i + 1}"
            columns |= (
                _pairs_measured(key, pairs, statistic)
                if len(pairs) > 2
                else _if_any(key, np.zeros(0), np.mean)
            )
    return columns | {"n_shapes": len(bright.magnitude)}


def _pairs_measured(name: str, pairs: Floats, statistic: Any) -> Row:
    """Return a statistic of pairs ``(n, 2)`` and its limits; pairs are resampled whole."""

    def of_pooled(drawn: Floats, /, *, axis: int) -> Floats:
        # `measured` hands over pairs behind one another.
        return np.asarray(statistic(drawn.reshape(len(drawn), -1, 2)))

    return measured(name, pairs, of_pooled)


def slope_bias(pairs: Floats) -> Floats:
    """Return m of ``(..., n, 2)`` pairs (true, measured): the least-squares slope less 1."""
    x, y = pairs[..., 0], pairs[..., 1]
    x0, y0 = (values - values.mean(axis=-1, keepdims=True) for values in (x, y))
    spread = (x0**2).sum(axis=-1)
    # A resample may hold one galaxy many times and nothing else.
    return np.asarray((x0 * y0).sum(axis=-1) / np.where(spread > 0, spread, np.nan) - 1)


def intercept(pairs: Floats) -> Floats:
    """Return c of ``(..., n, 2)`` pairs: the least-squares line at 0."""
    x, y = pairs[..., 0].mean(axis=-1), pairs[..., 1].mean(axis=-1)
    return np.asarray(y - (1 + slope_bias(pairs)) * x)
