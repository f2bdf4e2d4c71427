"""What is done to one cell: detect, deblend, measure.  Plain callables, without Ray.

`cell_state` runs them on a cell, `outcome` writes what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from raydeblend.config import CatalogConfig
from raydeblend.detect.background import REACH, without_background
from raydeblend.detect.footprints import DetectConfig, find_blends
from raydeblend.detect.given import find_given, unmeasurable
from raydeblend.detect.noise_correlation import with_noise
from raydeblend.detect.tile_noise import tile_noise
from raydeblend.errors import NoDataError
from raydeblend.fit.result import Measurements, fill
from raydeblend.fits import read_tile
from raydeblend.fits.band_psf import nominal
from raydeblend.fits.coverage import coverage
from raydeblend.flags import Flag
from raydeblend.measure.measure import choose_engine, measure_blends
from raydeblend.pipeline.answers import JOINT
from raydeblend.pipeline.checking import look_at
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent, unmeasured, without_models
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.detected import Detected, Injection
from raydeblend.pipeline.injection import begin_injection, carry_on, conclude
from raydeblend.pipeline.opinion import second_opinion
from raydeblend.pipeline.parents import parents_table
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.products import cell_pixels, no_pixels, with_products
from raydeblend.pipeline.rows import (
    Measured,
    MeasuredSources,
    owned,
    parent_rows,
    to_measured,
)
from raydeblend.pipeline.second_pass import due_again
from raydeblend.pipeline.stars import shipped_stars
from raydeblend.psf import TilePsf
from raydeblend.survey import get_survey
from raydeblend.tile import Blend, Box, Tile, TileHeader

__all__ = [
    "DeblendCell",
    "Stages",
    "detect_cell",
    "measure_cell",
]

MODELS = {"ngmix": "exp", "mixture": "bdf"}
"""The profile that each engine fits: ngmix's bulge + disk is five times slower than its disk, ours
is not and gives the better fluxes (docs/photometry.md)."""
FITTING = (JOINT, "rdn", "rdn-joint", "branched", "srgan", "srflow")
"""Deblenders that call the joint fit, in whole or to confirm what a network found."""


AT_ONCE = 500
"""Sources measured together: their stamps are 0.2 GB, those of a crowded cell would be 2 GB."""


@dataclass(frozen=True)
class Stages:
    """What is done to a cell before it is written.

    Attributes
    ----------
    detect, measure
        From the task to the footprints, and from the separated sources to their rows.
    deblend
        Makes the stage between them, once in each actor.
    """

    detect: Callable[[CellTask], Detected]
    deblend: Callable[[], Callable[[Detected], DeblendedCell]]
    measure: Callable[[DeblendedCell], Measured]


def stages_of(config: CatalogConfig) -> Stages:
    """Return the stages that a configuration asks for."""
    return Stages(
        partial(detect_cell, config=config),
        partial(_deblend_stage, config),
        partial(measure_cell, config=config),
    )


def _deblend_stage(config: CatalogConfig) -> Callable[[Detected], DeblendedCell]:
    """Load the deblenders; of what its own photometry has measured no models go on."""
    deblend, opinion = first_opinion(config), second_opinion(config)

    def finish(deblended: DeblendedCell) -> DeblendedCell:
        deblended = with_products(deblended, config.save)
        return without_models(deblended) if config.photometry == JOINT else deblended

    def with_copy(detected: Detected) -> DeblendedCell:
        deblended = deblend(replace(detected, injection=None))
        separated = finish(deblended if opinion is None else opinion(deblended))
        # Of injected sources the truth is known, which asks for no second opinion.
        copy = carry_on(detected.injection, "deblend", lambda copied: finish(deblend(copied)))
        return replace(separated, detected=replace(separated.detected, injection=copy))

    return with_copy


def first_opinion(config: CatalogConfig) -> Callable[[Detected], DeblendedCell]:
    """Return what deblends a cell's footprints: its sources found, or at given positions."""
    if not config.is_forced:
        return DeblendCell(config)
    # Only here, since it loads torch, which SExtractor's catalogs do not need.
    from raydeblend.pipeline.forced import ForcedCell

    return ForcedCell(config)


def detect_cell(task: CellTask, config: CatalogConfig) -> Detected:
    """Read a cell's pixels and find the footprints that can hold sources of the cell.

    Where the masks rule out every pixel there is nothing to find: surveys have such corners, and
    to call them failed would hide those that are.

    Raises
    ------
    TileError
        If the pixels cannot be used.
    OSError
        If they cannot be read.
    """
    images = bool({"residual", "segmentation"} & set(config.save))
    try:
        tile = read_cell(task, config)
    except NoDataError:
        return _without_data(task, config, images)
    found = _detect(tile, task, config, images)
    if task.positions is not None:
        # What is not given is not masked, so the pixels would not be what the checks expect.
        return due_again(found)
    detected = replace(due_again(found), seen=look_at(tile, found, config.background))
    if detected.work_factor > 1:
        return detected
    return replace(detected, injection=copy_cell(tile, detected, config))


def read_cell(task: CellTask, config: CatalogConfig) -> Tile:
    """Read a cell's pixels; see `raydeblend.fits.read_tile` for what is raised."""
    # The sky of every pixel of a stamp takes as many around it, or it would depend on the cut.
    box = task.cell.outer.grow(REACH)
    return read_tile(task.cell.tile, box, get_survey(config.survey), config.bad_planes)


def copy_cell(tile: Tile, detected: Detected, config: CatalogConfig) -> Injection | None:
    """Find the footprints in a copy of a cell's pixels with injected sources, if any are asked."""
    return begin_injection(tile, detected, config, partial(_detect, config=config))


def _without_data(task: CellTask, config: CatalogConfig, images: bool) -> Detected:
    """Return what there is in a cell without a usable pixel: rows at given positions."""
    header, given, survey = task.cell.tile, task.positions, get_survey(config.survey)
    blends = [] if given is None else unmeasurable(header, given.xy, Flag.MASKED)
    return Detected(
        task,
        tuple(b for b in blends if _reaches(b, task.cell.inner)),
        TilePsf(tuple(nominal(header, band, survey) for band in header.bands)),
        pixels=no_pixels(task.cell) if images else None,
        unusable=1.0,
    )


def _detect(tile: Tile, task: CellTask, config: CatalogConfig, images: bool = False) -> Detected:
    """Find the footprints in pixels that were read; with their `images`, if any are to be saved."""
    cell = task.cell
    noise = _noise(cell.tile, config)
    clean = without_background(with_noise(tile, noise), config.background)
    read = clean.crop(cell.outer)
    given = task.positions
    if given is None:
        blends = find_blends(read, detection(config))
    else:
        blends = find_given(read, given.take(~given.repeated).xy, detection(config))
    mine = tuple(b for b in blends if _reaches(b, cell.inner))
    pixels = cell_pixels(cell, read, mine) if images else None
    unusable = float(read.crop(cell.inner).unusable.all(axis=0).mean())
    return Detected(task, mine + _repeated(task), read.psf, noise, pixels=pixels, unusable=unusable)


def _repeated(task: CellTask) -> tuple[Blend, ...]:
    """Return the footprints of given positions that are not fitted, since another is there."""
    if task.positions is None:
        return ()
    repeated = task.positions.within(task.cell.inner)
    xy = repeated.xy[repeated.repeated]
    return tuple(unmeasurable(task.cell.tile, xy, Flag.REPEATED_POSITION))


def _noise(header: TileHeader, config: CatalogConfig) -> tuple[float, ...]:
    """Return the noise of each band on the scale of sources over that of independent pixels."""
    if config.noise == "independent":
        return (1.0,) * len(header.bands)
    return tile_noise(header, get_survey(config.survey), config.bad_planes)


def detection(config: CatalogConfig) -> DetectConfig:
    """Return the part of the configuration that the detection takes."""
    return DetectConfig(threshold=config.detect_threshold, min_area=config.detect_min_area)


def _reaches(blend: Blend, inner: Box) -> bool:
    """Tell whether a footprint has a pixel in a cell's inner region, where its sources may be."""
    part = inner.shift(-blend.box.y0, -blend.box.x0).clip(Box(0, 0, *blend.footprint.shape))
    return bool(part.y1 > part.y0 and part.x1 > part.x0 and blend.footprint[part.slices].any())


def choose_photometry(config: CatalogConfig) -> str:
    """Return the photometry to use: the configured one, or what ``auto`` means here.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    if config.photometry == "auto" and config.deblender == JOINT:
        return JOINT
    return config.photometry if config.photometry == JOINT else choose_engine(config.photometry)


def compile_ahead(config: CatalogConfig, gpus: int) -> None:
    """Compile what workers without a GPU call, where no process of this machine has done so yet.

    Once, and said here, before they start and all wait for it.  On every other machine of a
    cluster the first worker does it.
    """
    # Imported here, since the workers of some deblenders need no compiler.
    if config.deblender in FITTING and not gpus:
        from raydeblend.fit.compiled.start import compile_fit

        compile_fit()
    # The joint photometry leaves to the mixture what the deblender has not measured.
    if config.photometry in (JOINT, "mixture"):
        from raydeblend.fit.compiled.start_photometry import compile_photometry

        compile_photometry()


def measure_cell(separated: DeblendedCell, config: CatalogConfig) -> Measured:
    """Measure a cell, and then the copy with injected sources, and return its own rows."""
    measured = _measure(separated, config)
    copy = separated.detected.injection
    copy = carry_on(copy, "measure", lambda content: _measure(content, config).table)
    copy = conclude(copy, measured.table)
    detected = separated.detected
    return replace(measured, injection=copy, seen=detected.seen, unusable=detected.unusable)


def _measure(separated: DeblendedCell, config: CatalogConfig) -> Measured:
    """Measure the footprints of which the cell owns a source, and return its own rows.

    With photometry ``joint`` only those sources are fitted that the deblender has not measured
    itself.
    """
    stars = shipped_stars()
    detected = separated.detected
    task = detected.task
    pairs = zip(detected.blends, separated.parts, strict=True)
    mine = [(blend, part) for blend, part in pairs if owned(task, blend, part).any()]
    joint = config.photometry == JOINT
    if not joint:
        mine = [(blend, replace(part, measured=None)) for blend, part in mine]
    left = [unmeasured(*pair) for pair in mine]
    engine = "mixture" if joint else config.photometry
    fitted = _fit([pair for pair in left if len(pair[1].xy)], detected, engine, config.seed)
    parents = []
    for (blend, part), (_, rest) in zip(mine, left, strict=True):
        groups = [] if part.measured is None else [part.measured]
        groups += [next(fitted)] if len(rest.xy) else []
        measured = MeasuredSources.join(groups, blend, part, task.cell.tile.pixel_scale)
        points = measured.points(blend, part, detected.psf)
        p_star = stars.p_star(points, task.cell.tile.bands)
        parents.append(parent_rows(task, blend, part, measured, points, p_star, detected.psf))
    survey = get_survey(config.survey)
    covered = partial(coverage, survey=survey, bad_planes=config.bad_planes)
    return replace(
        to_measured(task, parents, covered, detected.noise, config.second_opinion),
        parents=parents_table(
            task, separated.accounts, covered, detected.noise, detected.work_factor
        ),
        work_factor=detected.work_factor,
        products=separated.products,
    )


def _fit(
    pairs: Sequence[tuple[Blend, DeblendedParent]], detected: Detected, engine: str, seed: int
) -> Iterator[Measurements]:
    """Yield the measurements of footprints, of `AT_ONCE` sources or one footprint at a time."""
    ends = np.cumsum([len(part.xy) for _, part in pairs]) // AT_ONCE
    for number in np.unique(ends):
        some = [pairs[i] for i in np.flatnonzero(ends == number).tolist()]
        yield from _fit_together(some, detected, engine, seed)


def _fit_together(
    pairs: Sequence[tuple[Blend, DeblendedParent]], detected: Detected, engine: str, seed: int
) -> Iterator[Measurements]:
    """Yield the measurements of footprints, each source with the PSF at its own position.

    A footprint with sources of several PSFs is measured once with each, neighbors included, and
    of each time those sources are kept whose PSF it is.
    """
    keys = [detected.psf.keys(blend.on_tile(part.xy)) for blend, part in pairs]
    jobs = [(i, key) for i, own in enumerate(keys) for key in dict.fromkeys(own)]
    blends, parts = zip(*(pairs[i] for i, _ in jobs), strict=True)
    found = measure_blends(
        blends,
        [part.models for part in parts],
        [part.xy for part in parts],
        [detected.psf.stamps(key) for _, key in jobs],
        detected.task.cell.tile.pixel_scale,
        engine,
        seed,
        MODELS[engine],
        deblenders=[part.deblender for part in parts],
    )
    times = {job: measured for job, measured in zip(jobs, found, strict=True)}
    for i, own in enumerate(keys):
        yield _join([times[i, key] for key in dict.fromkeys(own)], own)


def _join(times: Sequence[Measurements], keys: Sequence[tuple[int, ...]]) -> Measurements:
    """Return of each source the measurement with its own PSF, of those with one PSF each."""
    first, *others = times
    if not others:
        return first
    which = np.array([list(dict.fromkeys(keys)).index(key) for key in keys])
    joined = first.take(np.arange(len(which)))
    for number, measured in enumerate(others, start=1):
        rows = np.flatnonzero(which == number)
        fill(joined, rows, measured.take(rows))
    return joined
