"""What the injected sources of a run say of its catalog, as a table by magnitude."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.tables import markdown, number
from raydeblend.inject.healpix import LARGEST_NSIDE, ring_pixels
from raydeblend.inject.read import read_injected
from raydeblend.inject.sources import GALAXY
from raydeblend.inject.statistics import (
    InjectedBin,
    by_magnitude,
    column,
    half_complete,
    score_bin,
)
from raydeblend.pipeline.ledger import read_run
from raydeblend.wording import amount, beside


def injected_lines(out: str, step: float) -> Iterator[str]:
    """Yield the lines of the table, and what its columns are.

    Raises
    ------
    ConfigError
        If `out` is no run or holds no injected sources, or the step is not above 0.
    """
    if not step > 0:
        raise ConfigError(f"the step in magnitude must be above 0, not {step:g}")
    bands = read_run(out).bands
    rows = read_injected(out)
    bins = by_magnitude(rows, bands, step)
    injected, galaxies = amount(len(rows), "injected source"), sum(each.n for each in bins)
    yield f"{injected}, {galaxies} of them galaxies of the sky's:"
    yield markdown(_header(bands), [_cells(each, bands) for each in bins])
    yield beside(
        "",
        "complete: found, numbers as in the sky; whole: not shredded; bias: median F / F_true - 1; "
        "pull: width of (F - F_true) / error; colors: median error in mag; x, y: median offset, "
        "scatter, mas",
    )


def healpix_lines(out: str, nside: int) -> Iterator[str]:
    """Yield the lines of a table by HEALPix pixel: the injected galaxies of all magnitudes.

    Raises
    ------
    ConfigError
        If `out` is no run or holds no injected sources, or `nside` is no power of two.
    """
    if not (0 < nside <= LARGEST_NSIDE and nside & (nside - 1) == 0):
        raise ConfigError(f"nside must be a power of two up to 2**29, not {nside}")
    bands, rows = read_run(out).bands, read_injected(out)
    galaxies = rows.filter(pa.array(np.array(rows["kind"].to_pylist()) == GALAXY))
    pixel = ring_pixels(nside, column(galaxies, "ra"), column(galaxies, "dec"))
    cells = []
    for number_of in np.unique(pixel).tolist():
        part = galaxies.filter(pa.array(pixel == number_of))
        limits = half_complete(part, bands)
        halves = [number(limits.get(band, float("nan")), ".2f") for band in bands]
        cells.append([str(number_of), *halves, *_cells(score_bin(part, 0, 99, bands), bands)[1:]])
    halves = [f"50 % {band}" for band in bands]
    yield markdown(["pixel", *halves, *_header(bands)[1:]], cells)


def _header(bands: Sequence[str]) -> list[str]:
    by_band = [f"{name} {band}" for band in bands for name in ("bias", "pull")]
    colors = [f"{blue}-{red}" for blue, red in pairwise(bands)]
    return ["magnitude", "n", "complete", "whole", *by_band, *colors, "x", "y", "scatter"]


def _cells(each: InjectedBin, bands: Sequence[str]) -> list[str]:
    cells = [f"{each.low:g}–{each.high:g}", str(each.n)]
    rate = f"{each.completeness:.3f} ± {each.completeness_err:.3f}"
    cells.append(rate if each.n else "–")
    cells.append(number(each.purity, ".3f"))
    for band in bands:
        cells += [number(each.bands[band].bias, "+.3f"), number(each.bands[band].pull_width, ".2f")]
    cells += [number(color, "+.3f") for color in each.colors.values()]
    return cells + [number(value, ".0f") for value in (*each.offset, each.position_scatter)]
