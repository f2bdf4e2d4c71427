"""What the checks of a cell found, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend.checks.config import CheckConfig
from raydeblend.checks.pixels import PixelFacts, detected_pixels, pixel_facts
from raydeblend.checks.sharpness import count_sharp
from raydeblend.checks.sources import BandByBand, bright_sources
from raydeblend.checks.stars import (
    LOCUS_BANDS,
    are_points,
    band_excess,
    locus_offset,
    narrowest,
)
from raydeblend.inject.statistics import column, flux_errors, is_control, middle, spread
from raydeblend.psf import TilePsf
from raydeblend.tile import Blend, Box, Tile

FloatArray = NDArray[np.float64]

LOCUS_LAYOUTS = ("native",)
"""Layouts whose bands are those that the stellar locus is known in."""


@dataclass(frozen=True)
class CellFacts:
    """What is looked at of a cell before it is deblended.

    Attributes
    ----------
    bands
        Their names.
    present
        ``(bands,)`` whether the tile has a file of the band.
    pixels, sources
        Facts of the pixels, and of bright isolated sources.
    has_locus
        Whether the colors of stars are known in these bands.
    keeps_sky
        Whether the pixels are taken to be without sky, so that none is subtracted.
    sharp
        ``(bands,)`` pixels of sources that are sharper than the PSF.
    """

    bands: tuple[str, ...]
    present: tuple[bool, ...]
    pixels: PixelFacts
    sources: BandByBand
    has_locus: bool
    keeps_sky: bool = False
    sharp: tuple[int, ...] = ()


def cell_facts(
    tile: Tile,
    inner: Box,
    blends: Sequence[Blend],
    psf: TilePsf,
    config: CheckConfig,
    keeps_sky: bool = False,
) -> CellFacts:
    """Look at a cell.

    Parameters
    ----------
    tile
        As it was read.
    blends, psf
        All footprints that reach into the inner region, and the PSF by place.
    keeps_sky
        Whether no sky is subtracted from the pixels.
    """
    files, detected = tile.header.files, detected_pixels(inner, blends)
    return CellFacts(
        tile.header.bands,
        tuple(file is not None for file in files),
        pixel_facts(tile, inner, detected, config.pixels),
        bright_sources(blends, psf, inner, config.sources),
        all(file is None or file.layout in LOCUS_LAYOUTS for file in files),
        keeps_sky,
        count_sharp(tile.crop(inner), detected, config),
    )


def find_faults(facts: CellFacts, config: CheckConfig) -> Iterator[str]:
    """Yield what is wrong with a cell's files, one sentence each."""
    yield from _pixel_faults(facts, config)
    if len(facts.sources.flux) < config.fewest:
        return
    yield from _position_faults(facts, config)
    of_psfs = list(_psf_faults(facts, config))
    yield from of_psfs
    # Colors are those of fluxes in the PSF.
    if not of_psfs and facts.has_locus and set(LOCUS_BANDS) <= set(facts.bands):
        yield from _zero_point_faults(facts, config)


def _pixel_faults(facts: CellFacts, config: CheckConfig) -> Iterator[str]:
    seen = facts.pixels
    low, high = config.noise
    for i, band in enumerate(facts.bands):
        if seen.hidden[i] > config.hidden:
            yield f"the mask of band {band} rules out {seen.hidden[i]:.0%} of the pixels with data"
        elif facts.present[i] and seen.usable[i] < config.data and max(seen.usable) > 0.5:
            yield f"band {band} has no data"
        if seen.noise[i] > high or seen.noise[i] < low:
            times = f"{seen.noise[i]:.2f} times"
            yield f"the noise of band {band} is {times} what its variance plane says"
        if facts.keeps_sky and abs(seen.sky[i]) > config.sky:
            yield (
                f"the sky of band {band} is {seen.sky[i]:+.1f} sigma a pixel, and none is "
                "subtracted (--background)"
            )
        emptied = 1 - seen.usable[i] > config.masked and seen.bright[i] < config.bright
        # A bad column through a galaxy also has light on both sides.
        around = seen.rim[i] > config.rim and 1 - seen.usable[i] > config.rim_masked
        if around or (emptied and seen.usable[i] > config.data):
            yield f"the mask of band {band} rules out the light of sources"
        if seen.constant[i] > config.constant:
            yield (
                f"the mask of band {band} does not rule out dead pixels: "
                f"{seen.constant[i]:.2%} of the usable ones are exactly 0"
            )
    for band, n in zip(facts.bands, facts.sharp, strict=False):
        if n >= config.spikes:
            yield (
                f"{n} pixels of sources in band {band} are sharper than the PSF: cosmic rays are "
                "left in, or the PSF is too broad"
            )


def _position_faults(facts: CellFacts, config: CheckConfig) -> Iterator[str]:
    off = facts.sources.xy - np.nanmedian(facts.sources.xy, axis=1, keepdims=True)
    for i, band in enumerate(facts.bands):
        shift, error = _median(off[:, i])
        distance = float(np.hypot(*shift))
        if distance - config.sigma * float(error.max()) > config.position:
            yield (
                f"the positions of band {band} are off those of the other bands by "
                f"({shift[0]:+.2f}, {shift[1]:+.2f}) pixels: its WCS is wrong"
            )


def _psf_faults(facts: CellFacts, config: CheckConfig) -> Iterator[str]:
    least = broader_by(narrowest(facts.sources, config.narrow))
    if least > config.psf_width:
        yield f"the PSFs are {least:.0%} broader than the stars"
    more = band_excess(facts.sources, config.stars)
    for i, band in enumerate(facts.bands):
        excess, error = (float(v[0]) for v in _median(more[:, i, None]))
        surely = np.copysign(max(abs(excess) - config.sigma * error, 0.0), excess)
        if abs(broader_by(surely)) > config.psf_width:
            broader = broader_by(excess)
            word = "broader" if broader > 0 else "narrower"
            yield (
                f"the PSF of band {band} is {abs(broader):.0%} {word} than its sources say, "
                "compared with the other bands"
            )


def broader_by(excess: float) -> float:
    """Return by which part a PSF is broader than what is so much wider in T; T is a square."""
    return float(1 / np.sqrt(max(1 + excess, 0.01)) - 1)


def _zero_point_faults(facts: CellFacts, config: CheckConfig) -> Iterator[str]:
    stars = facts.sources.take(are_points(facts.sources, config.stars))
    off = locus_offset(stars, facts.bands, config.stars)
    sure = off.gain > config.sigma**2 and off.chi2 < config.locus_chi2
    if sure and off.n >= config.fewest and abs(off.offset) > config.zero_point:
        word = "faint" if off.offset > 0 else "bright"
        yield (
            f"the stars of band {off.band} are {abs(off.offset):.2f} mag too {word} for the "
            "stellar locus: its zero point is wrong"
        )


def control_faults(injected: pa.Table, bands: Sequence[str], config: CheckConfig) -> Iterator[str]:
    """Yield what is wrong with what the pipeline made of the bright isolated injected sources."""
    controls = injected.filter(pa.array(is_control(injected)))
    if len(controls) < config.controls:
        return
    found = column(controls, "found")
    if found.mean() < config.found:
        yield f"only {int(found.sum())} of {len(found)} bright injected sources were found"
    for band in bands:
        bias = middle(flux_errors(controls, band)[0])
        if abs(bias) > config.flux:
            yield f"the fluxes of bright injected sources in band {band} are wrong by {bias:+.0%}"


def _median(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the medians ``(k,)`` of values ``(n, k)`` and their standard errors; NaN of none."""
    known = values[np.isfinite(values).all(axis=1)]
    if not len(known):
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing
    # The median of normal values has 1.25 times the error of the mean.
    error = [1.25 * spread(each) / np.sqrt(len(known)) for each in known.T]
    return np.median(known, axis=0), np.array(error)
