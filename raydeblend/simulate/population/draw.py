"""Draw galaxies of the realistic population: magnitude first, and what goes with it.

Bright galaxies (i < 23.2) have the sizes, Sérsic indices, axis ratios and colors of COSMOS, all
from one joint distribution.  Fainter ones have CatSim's colors and the shapes of COSMOS galaxies
of i = 23.2 and these colors, smaller by `FAINT_SHRINK` per magnitude.  The other colors and the
redshift are CatSim's for the magnitude and the colors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.galaxies import (
    BULGE_DISK,
    CATSIM_BANDS,
    CLUMPY,
    HUDF,
    REAL,
    SERSIC,
    half_light_radius,
)
from raydeblend.simulate.population.galaxies import N_GRID, MixedGalaxies
from raydeblend.simulate.population.mixture import load_mixture
from raydeblend.simulate.population.stamps import Stamps

FloatArray = NDArray[np.float64]

COMPLETE = 23.2
"""In i, to which COSMOS (cut at F814W = 23.5) is complete."""
BRIGHT = 19.0
"""In i, brighter than which neither catalog has many galaxies."""
FAINT_SHRINK = -0.17
"""d ln r50 / d i beyond: from 0.25" at 23.2 to the 0.18" (0.19" with the telescope's PSF) that
the 49 galaxies of 24 < i < 26 in GalSim's 25.2 sample have."""
R50_RANGE = (0.04, 6.0)
# Of 33 bulge + disk fits of GalSim's COSMOS sample: B/T against the single Sérsic index, and the
# ratio of the radii.
BULGE_AT_1, BULGE_PER_N, BULGE_SCATTER = 0.25, 0.12, 0.15
BULGE_RANGE = (0.05, 0.9)
LOG_RATIO, LOG_RATIO_SCATTER = -0.45, 0.28
RATIO_RANGE = (0.1, 0.95)
BULGE_MIN_N = 1.2
"""Of the Sérsic index above which a galaxy may be drawn as bulge + disk."""
GRADIENT, GRADIENT_SCATTER = 0.35, 0.2
"""By how many magnitudes in g - i a bulge is redder than its disk."""
BULGE_ROUNDER = 0.6
"""Factor on the bulge's shear."""
WAVELENGTH = {"u": 0.365, "g": 0.48, "r": 0.62, "i": 0.765, "z": 0.89, "y": 0.98}
"""Micrometers; color gradients are linear in it."""
CLUMPINESS = (0.15, 0.45)
# A real image is drawn for galaxies of a magnitude and a size like its own.
STRETCH_RANGE = (0.6, 1.6)


@dataclass(frozen=True)
class Fractions:
    """Of the galaxies, which part is of each kind, where their properties allow it.

    Attributes
    ----------
    bulge_disk
        Of those of n > 1.2.
    real
        Of those of i < `real_faint`: real images, or clumpy galaxies where there are none.
    """

    bulge_disk: float = 0.5
    real: float = 0.25
    real_faint: float = 24.0


def draw_realistic(
    magnitude_i: FloatArray,
    bands: tuple[str, ...],
    rng: np.random.Generator,
    stamps: Stamps,
    fractions: Fractions = Fractions(),
) -> MixedGalaxies:
    """Draw a galaxy of each magnitude in i ``(n,)``; the split of galaxies is that of `stamps`.

    Without any stamp, clumpy galaxies stand for the real ones.
    """
    drawn = draw_smooth(magnitude_i, bands, rng)
    few = rng.random((2, len(drawn)))
    blend = np.nan_to_num(drawn.index) > BULGE_MIN_N
    with_bulge(drawn, np.flatnonzero(blend & (few[0] < fractions.bulge_disk)), rng)
    bright = magnitude_i < fractions.real_faint
    chosen = np.flatnonzero(bright & (few[1] < fractions.real))
    if not len(stamps):
        with_clumps(drawn, chosen, rng)
        return drawn
    return with_images(drawn, chosen, stamps, rng)


def draw_smooth(
    magnitude_i: FloatArray,
    bands: tuple[str, ...],
    rng: np.random.Generator,
    index: FloatArray | None = None,
) -> MixedGalaxies:
    """Draw Sérsic galaxies of the given magnitudes in i ``(n,)``, and of the given indices."""
    n = len(magnitude_i)
    colors = _colors(magnitude_i, rng, index)
    shape = _shapes(magnitude_i, colors, rng, index)
    fainter = np.maximum(magnitude_i - COMPLETE, 0)
    ratio = np.clip(1 / (1 + np.exp(-shape["logit_q"])), 0.1, 0.98)
    modulus = (1 - ratio) / (1 + ratio)
    phase = rng.uniform(0, 2 * np.pi, n)
    zero = np.zeros(n)
    return MixedGalaxies(
        bands=bands,
        magnitude=_magnitudes(bands, magnitude_i, colors),
        kind=np.full(n, SERSIC, dtype="U8"),
        cls=np.full(n, SERSIC, dtype="U8"),
        index=on_grid(10 ** shape["log_n"]),
        r50=np.clip(10 ** shape["log_r50"] * np.exp(FAINT_SHRINK * fainter), *R50_RANGE),
        g=modulus[:, None] * np.stack([np.cos(phase), np.sin(phase)], axis=1),
        bulge_fraction=np.zeros((n, len(bands))),
        bulge_radius=zero.copy(),
        disk_radius=zero.copy(),
        bulge_g=np.zeros((n, 2)),
        clumpiness=zero.copy(),
        stamp=np.full(n, -1, dtype=np.int64),
        stretch=np.ones(n),
        angle=zero.copy(),
        redshift=10 ** colors["log_z"],
    )


def _shapes(
    magnitude_i: FloatArray,
    colors: dict[str, FloatArray],
    rng: np.random.Generator,
    index: FloatArray | None,
) -> dict[str, FloatArray]:
    """Return log_r50, log_n and logit_q, those of i = 23.2 for what is fainter."""
    known = {"i": np.clip(magnitude_i, BRIGHT, COMPLETE)} | {k: colors[k] for k in ("g-r", "r-i")}
    cosmos = load_mixture("cosmos")
    if index is None:
        return cosmos.draw(known, ("log_r50", "log_n", "logit_q"), rng)
    known["log_n"] = np.log10(index)
    return cosmos.draw(known, ("log_r50", "logit_q"), rng) | {"log_n": known["log_n"]}


def on_grid(n: FloatArray) -> FloatArray:
    """Return the nearest indices of `N_GRID`, in the logarithm."""
    edges = np.sqrt(N_GRID[1:] * N_GRID[:-1])
    return np.asarray(N_GRID[np.searchsorted(edges, n)])


def _colors(
    magnitude_i: FloatArray, rng: np.random.Generator, index: FloatArray | None
) -> dict[str, FloatArray]:
    """Return colors and log10 redshift by name."""
    catsim = load_mixture("catsim")
    two, faint = ("g-r", "r-i"), magnitude_i > COMPLETE
    bright_i = np.maximum(magnitude_i, BRIGHT)
    colors = {name: np.zeros(len(magnitude_i)) for name in two}
    for rows, source in ((~faint, load_mixture("cosmos")), (faint, catsim)):
        known = {"i": bright_i[rows]}
        if index is not None and source is not catsim:
            known["log_n"] = np.log10(index[rows])
        for name, values in source.draw(known, two, rng).items():
            colors[name][rows] = values
    return colors | catsim.draw({"i": bright_i} | colors, ("u-g", "i-z", "z-y", "log_z"), rng)


def _magnitudes(
    bands: tuple[str, ...], magnitude_i: FloatArray, colors: dict[str, FloatArray]
) -> FloatArray:
    """Return ``(n, bands)``; a band outside u..y takes the i magnitude."""
    table = {"i": magnitude_i}
    table["r"] = magnitude_i + colors["r-i"]
    table["g"] = table["r"] + colors["g-r"]
    table["u"] = table["g"] + colors["u-g"]
    table["z"] = magnitude_i - colors["i-z"]
    table["y"] = table["z"] - colors["z-y"]
    return np.stack([table[b] if b in CATSIM_BANDS else magnitude_i for b in bands], axis=1)


def with_bulge(galaxies: MixedGalaxies, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Turn some Sérsic galaxies into bulge + disk of the same half-light radius, in place.

    The larger the index, the larger the bulge, which is redder and rounder than its disk.
    """
    index = galaxies.index[rows]
    bulge = BULGE_AT_1 + BULGE_PER_N * (index - 1) + BULGE_SCATTER * rng.standard_normal(len(rows))
    bulge = np.clip(bulge, *BULGE_RANGE)
    ratio = 10 ** (LOG_RATIO + LOG_RATIO_SCATTER * rng.standard_normal(len(rows)))
    ratio = np.clip(ratio, *RATIO_RANGE)
    disk = galaxies.r50[rows] / half_light_radius(np.ones(len(rows)), ratio, bulge)
    redder = np.maximum(GRADIENT + GRADIENT_SCATTER * rng.standard_normal(len(rows)), 0)
    galaxies.kind[rows] = galaxies.cls[rows] = BULGE_DISK
    galaxies.disk_radius[rows], galaxies.bulge_radius[rows] = disk, ratio * disk
    galaxies.bulge_fraction[rows] = _by_band(bulge, redder, galaxies.bands)
    galaxies.bulge_g[rows] = BULGE_ROUNDER * galaxies.g[rows]
    galaxies.index[rows] = np.nan


def _by_band(bulge_i: FloatArray, redder: FloatArray, bands: tuple[str, ...]) -> FloatArray:
    """Return the bulge fractions ``(n, bands)`` of bulges `redder` in g - i than their disks."""
    blue, red = WAVELENGTH["g"], WAVELENGTH["i"]
    wave = np.array([WAVELENGTH.get(band, red) for band in bands])
    fainter = redder[:, None] * (red - wave) / (red - blue)
    odds = (bulge_i / (1 - bulge_i))[:, None] * 10 ** (-0.4 * fainter)
    return np.asarray(odds / (1 + odds))


def with_clumps(galaxies: MixedGalaxies, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Put part of the light of some galaxies into knots, in place: what stands for real ones."""
    galaxies.kind[rows] = galaxies.cls[rows] = CLUMPY
    galaxies.clumpiness[rows] = rng.uniform(*CLUMPINESS, len(rows))
    galaxies.angle[rows] = rng.uniform(0, 360, len(rows))
    galaxies.bulge_fraction[rows] = 0
    galaxies.index[rows] = np.nan


def with_images(
    galaxies: MixedGalaxies,
    rows: NDArray[np.int64],
    stamps: Stamps,
    rng: np.random.Generator,
    among: NDArray[np.int64] | None = None,
) -> MixedGalaxies:
    """Replace some galaxies by real images of a similar size and magnitude, in place.

    Returns the galaxies with their images, which are `among` the given rows of `stamps`.
    """
    choice = np.arange(len(stamps)) if among is None else among
    i_band = galaxies.bands.index("i") if "i" in galaxies.bands else -1
    names = stamps.collection
    for row in rows:
        stamp = _like(galaxies.r50[row], galaxies.magnitude[row, i_band], stamps, choice, rng)
        stretch = np.clip(galaxies.r50[row] / stamps.r50[stamp], *STRETCH_RANGE)
        galaxies.stamp[row], galaxies.stretch[row] = stamp, stretch
        galaxies.r50[row] = stretch * stamps.r50[stamp]
        galaxies.kind[row] = galaxies.cls[row] = HUDF if names[stamp] == HUDF else REAL
        galaxies.angle[row] = rng.uniform(0, 360)
    galaxies.index[rows] = galaxies.g[rows] = np.nan
    galaxies.bulge_fraction[rows] = 0
    return replace(galaxies, stamps=stamps)


def _like(
    r50: float,
    magnitude: float,
    stamps: Stamps,
    among: NDArray[np.int64],
    rng: np.random.Generator,
) -> int:
    """Choose one of the images of the likest size and magnitude: not always the same."""
    away = np.abs(np.log(r50 / stamps.r50[among]))
    fainter = np.nan_to_num(stamps.magnitude[among] - magnitude)
    # Noise would show in an image drawn much brighter than it was seen.
    away += 0.2 * np.abs(fainter) + 0.8 * np.maximum(fainter - 0.5, 0)
    return int(rng.choice(among[np.argsort(away)[: max(4, len(among) // 8)]]))
