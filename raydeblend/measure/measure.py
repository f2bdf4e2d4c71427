"""Photometry of deblended sources: one interface, two engines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.errors import ConfigError, TileError
from raydeblend.fit.profiles import MODELS, parameters
from raydeblend.fit.psf import POINT, PsfMixture, fit_psf
from raydeblend.fit.result import Measurements, fill, not_attempted
from raydeblend.fit.stamps import Stamps, cut_stamps, join
from raydeblend.measure.blend_photometry import add_model_errors, refit_jointly
from raydeblend.measure.config import DEFAULT_CONFIG, ErrorParts, MeasureConfig
from raydeblend.measure.ngmix_engine import fit_ngmix
from raydeblend.measure.psfs import Psf, psf_of_each
from raydeblend.measure.sizes import with_sizes
from raydeblend.measure.template import TEMPLATE, fit_templates
from raydeblend.tile import Blend

Array = NDArray[np.float64]

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


def measure_blends(
    blends: Sequence[Blend],
    models: Sequence[ArrayLike],
    xy: Sequence[ArrayLike],
    psf: Psf | Sequence[Psf],
    pixel_scale: float,
    engine: str,
    seed: int = 0,
    model: str = "exp",
    joint_flux: bool = True,
    config: MeasureConfig = DEFAULT_CONFIG,
    deblenders: Sequence[str] | None = None,
) -> list[Measurements]:
    """Measure every source on its blend's image minus the other sources' models.

    A source that cannot be measured gets NaN and a flag; bad pixels never raise an exception.
    The result for a blend does not depend on the other blends of the call.  Errors of fluxes
    include the uncertainty due to neighbors and profiles (`docs/photometry.md`).

    Parameters
    ----------
    models
        Per blend ``(k, bands, y, x)``, in the unit of the image.
    xy
        Per blend ``(k, 2)`` deblended positions (x, y) in stamp pixels.
    psf
        One odd stamp ``(py, px)`` per band, for all blends, or such a sequence for each blend;
        a band whose PSF cannot be used is treated as missing.  Each PSF is fitted once.
    pixel_scale
        Arcsec per pixel.
    engine
        ``ngmix`` or ``mixture``; see `choose_engine`.
    seed
        Seed for engines that start from random guesses.
    model
        A profile, one of `profiles.MODELS`, or ``template``: the deblended models themselves, one
        amplitude per source and band, whatever the engine.
    joint_flux
        Fit the sources of a blend together, starting from the fits of single sources
        (`raydeblend.fit.blend`); ngmix always fits them one by one.
    config
        Tuned parameters.
    deblenders
        By whom the models of each blend are, which decides how wrong they may be.

    Returns
    -------
    One `Measurements` per blend, with the blend's own flags added.

    Raises
    ------
    ConfigError
        If the engine or the model is unknown, or there are not as many PSFs as blends.
    """
    _check(model)
    engine = choose_engine(engine)
    seeing = psf_of_each(psf, len(blends), "blends")
    if model == TEMPLATE:
        columns = zip(blends, models, xy, seeing, strict=True)
        measured = [fit_templates(*row, pixel_scale) for row in columns]
    else:
        found: dict[int, Measurements] = {}
        for rows in _of_one_psf(seeing):
            fits = _fit_all(
                [blends[i] for i in rows],
                [models[i] for i in rows],
                [xy[i] for i in rows],
                seeing[rows[0]],
                pixel_scale,
                engine,
                seed,
                model,
                joint_flux,
                config,
            )
            found |= zip(rows, map(with_sizes, fits), strict=True)
        measured = [found[i] for i in range(len(blends))]
    by_whom = deblenders or [""] * len(blends)
    return [
        _flagged(
            add_model_errors(m, blend, light, error_parts(engine, model, joint_flux, name, config)),
            blend.flags,
        )
        for m, blend, light, name in zip(measured, blends, models, by_whom, strict=True)
    ]


def error_parts(
    engine: str,
    model: str,
    joint_flux: bool,
    deblender: str = "",
    config: MeasureConfig = DEFAULT_CONFIG,
) -> ErrorParts:
    """Return what goes into the error of a flux, with models of a deblender, if it is known."""
    if model == TEMPLATE:
        return ErrorParts(config.template_noise)
    if engine != "mixture" or not joint_flux:
        return ErrorParts(config.single_noise)
    if model != "bdf":
        return ErrorParts(config.joint_noise)
    known = (own.parts for own in config.by_deblender if deblender in own.deblenders)
    return next(known, ErrorParts(config.joint_bdf_noise))


def _check(model: str) -> None:
    if model not in (*MODELS, TEMPLATE):
        known = ", ".join((*MODELS, TEMPLATE))
        raise ConfigError(f"unknown galaxy model {model!r}; known: {known}")


def _of_one_psf(seeing: Sequence[Psf]) -> list[list[int]]:
    """Return which blends have the same PSF stamps, which are fitted once and together."""
    groups: dict[tuple[tuple[bytes, tuple[int, ...]], ...], list[int]] = defaultdict(list)
    for i, psf in enumerate(seeing):
        stamps = [np.asarray(stamp, dtype=np.float64) for stamp in psf]
        groups[tuple((stamp.tobytes(), stamp.shape) for stamp in stamps)].append(i)
    return list(groups.values())


def _fit_all(
    blends: Sequence[Blend],
    models: Sequence[ArrayLike],
    xy: Sequence[ArrayLike],
    psf: Psf,
    pixel_scale: float,
    engine: str,
    seed: int,
    model: str,
    joint_flux: bool,
    config: MeasureConfig,
) -> list[Measurements]:
    """Fit profiles to single sources and, if asked for, then to those of each blend together."""
    mixtures = [_mixture_or_none(stamp) for stamp in psf]
    known = np.array([mixture is not None for mixture in mixtures])
    usable = tuple(mixture or POINT for mixture in mixtures)
    fit = _engine(engine, usable, pixel_scale, seed, model)
    pieces = [cut_stamps(*args) for args in zip(blends, models, xy, strict=True)]
    ends = np.cumsum([len(piece.offset) for piece in pieces], dtype=int)
    rows = [np.arange(end - len(p.offset), end) for end, p in zip(ends, pieces, strict=True)]
    result = not_attempted(sum(map(len, rows)), len(psf), model, engine)
    theta = np.full((len(result.flags), parameters(model)), np.nan)
    for size in sorted({piece.size for piece in pieces if len(piece.offset)}):
        chosen = [i for i, piece in enumerate(pieces) if piece.size == size]
        index = np.concatenate([rows[i] for i in chosen])
        measured, theta[index] = fit(join([pieces[i] for i in chosen]).only(known))
        fill(result, index, measured)
    single = [result.take(r) for r in rows]
    if engine == "mixture" and joint_flux:
        shapes = [theta[r] for r in rows]
        return refit_jointly(
            single, shapes, blends, models, xy, usable, pixel_scale, model, config.max_values
        )
    return single


def _flagged(measurements: Measurements, flags: int) -> Measurements:
    return replace(measurements, flags=measurements.flags | np.int32(flags))


def _engine(
    engine: str, psf: Sequence[PsfMixture], pixel_scale: float, seed: int, model: str
) -> Callable[[Stamps], tuple[Measurements, Array]]:
    """Return the fit of stamps: measurements and, of our own engine, theta ``(n, q)``."""
    if engine == "mixture":
        # Imported here, so that workers that measure with ngmix start without a compiler.
        from raydeblend.fit.single import fit_shapes

        return lambda stamps: fit_shapes(stamps, psf, pixel_scale, model)
    unknown = np.full(parameters(model), np.nan)
    return lambda stamps: (fit_ngmix(stamps, psf, pixel_scale, model, seed), unknown)


def _mixture_or_none(stamp: ArrayLike) -> PsfMixture | None:
    try:
        return fit_psf(stamp)
    except TileError:
        return None
