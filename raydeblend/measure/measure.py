"""Photometry of deblended sources: one interface, two engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from numpy.typing import ArrayLike

from raydeblend.errors import ConfigError, TileError
from raydeblend.measure.ngmix_engine import fit_ngmix
from raydeblend.measure.profiles import profile
from raydeblend.measure.psf import POINT, PsfMixture, fit_psf
from raydeblend.measure.result import Measurements, fill, not_attempted
from raydeblend.measure.stamps import Stamps, cut_stamps, join
from raydeblend.tile import Blend

ENGINES = ("ngmix", "mixture")


def choose_engine(name: str) -> str:
    """Return the engine to use: `name`, or for ``auto`` ngmix where it is installed.

    Raises
    ------
    ConfigError
        If there is no such engine, or it is not installed.
    """
    if name not in ("auto", *ENGINES):
        raise ConfigError(f"unknown photometry {name!r}; use auto, {' or '.join(ENGINES)}")
    installed = find_spec("ngmix") is not None
    if name == "ngmix" and not installed:
        raise ConfigError(
            "photometry 'ngmix' needs the package ngmix, which is not installed; use 'mixture', "
            "or 'auto' to take ngmix only where it is installed"
        )
    if name == "auto":
        return "ngmix" if installed else "mixture"
    return name


def measure_blend(
    blend: Blend,
    models: ArrayLike,
    xy: ArrayLike,
    psf: Sequence[ArrayLike],
    pixel_scale: float,
    engine: str,
    seed: int = 0,
    model: str = "exp",
) -> Measurements:
    """Measure the sources of one blend; see `measure_blends`."""
    return measure_blends([blend], [models], [xy], psf, pixel_scale, engine, seed, model)[0]


def measure_blends(
    blends: Sequence[Blend],
    models: Sequence[ArrayLike],
    xy: Sequence[ArrayLike],
    psf: Sequence[ArrayLike],
    pixel_scale: float,
    engine: str,
    seed: int = 0,
    model: str = "exp",
) -> list[Measurements]:
    """Measure every source on its blend's image minus the other sources' models.

    A source that cannot be measured gets NaN and a flag; nothing about a blend's pixels raises.
    The result of a source does not depend on which blends it is measured with.

    Parameters
    ----------
    models
        Per blend ``(k, bands, y, x)``, in the unit of the image.
    xy
        Per blend ``(k, 2)`` deblended positions (x, y) in stamp pixels.
    psf
        One odd stamp ``(py, px)`` per band, for all blends; a band whose PSF cannot be used is
        treated as missing.
    pixel_scale
        Arcsec per pixel.
    engine
        ``ngmix`` or ``mixture``; see `choose_engine`.
    seed
        For the engines that guess.

    Returns
    -------
    One `Measurements` per blend, with the blend's own flags added.

    Raises
    ------
    ConfigError
        If the engine or the model is unknown.
    """
    profile(model)  # refuses an unknown model before any work
    engine = choose_engine(engine)
    fit = _engine(engine, psf, pixel_scale, seed, model)
    pieces = [cut_stamps(*args) for args in zip(blends, models, xy, strict=True)]
    ends = np.cumsum([len(piece.offset) for piece in pieces], dtype=int)
    rows = [np.arange(end - len(p.offset), end) for end, p in zip(ends, pieces, strict=True)]
    result = not_attempted(sum(map(len, rows)), len(psf), model, engine)
    for size in sorted({piece.size for piece in pieces if len(piece.offset)}):
        chosen = [i for i, piece in enumerate(pieces) if piece.size == size]
        index = np.concatenate([rows[i] for i in chosen])
        fill(result, index, fit(join([pieces[i] for i in chosen])))
    return [_flagged(result.take(r), blend.flags) for r, blend in zip(rows, blends, strict=True)]


def _flagged(measurements: Measurements, flags: int) -> Measurements:
    return replace(measurements, flags=measurements.flags | np.int32(flags))


def _engine(
    engine: str, psf: Sequence[ArrayLike], pixel_scale: float, seed: int, model: str
) -> Callable[[Stamps], Measurements]:
    mixtures = [_mixture_or_none(stamp) for stamp in psf]
    known = np.array([mixture is not None for mixture in mixtures])
    usable = tuple(mixture or POINT for mixture in mixtures)
    if engine == "mixture":
        # Imported here, so that workers that measure with ngmix start without torch.
        from raydeblend.measure.mixture import fit_mixture

        return lambda stamps: fit_mixture(stamps.only(known), usable, pixel_scale, model)
    return lambda stamps: fit_ngmix(stamps.only(known), usable, pixel_scale, model, seed)


def _mixture_or_none(stamp: ArrayLike) -> PsfMixture | None:
    try:
        return fit_psf(stamp)
    except TileError:
        return None
