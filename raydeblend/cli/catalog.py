"""The commands that make a catalog, or deblend arrays.  Arguments in, one call out."""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated

import typer

from raydeblend.cli.options import (
    EXIT_FAILED_CELLS,
    Address,
    Bands,
    Deblender,
    Gpus,
    LayoutsSurvey,
    OptionsFile,
    Seed,
    Weights,
    check_paths,
    completed,
    path_argument,
    split_names,
)
from raydeblend.config import (
    DEBLENDERS,
    IMAGE_PATTERN,
    INJECT,
    PHOTOMETRY,
    PSF_PATTERN,
    CatalogConfig,
)
from raydeblend.errors import ConfigError
from raydeblend.wording import amount

log = logging.getLogger(__name__)

reading_option = partial(typer.Option, rich_help_panel="Input")
detection_option = partial(typer.Option, rich_help_panel="Detection")
deblending_option = partial(typer.Option, rich_help_panel="Deblending")
checks_option = partial(typer.Option, rich_help_panel="Self-checks")
selection_option = partial(typer.Option, rich_help_panel="Selecting cells and resuming")
run_option = partial(typer.Option, rich_help_panel="Execution and output")
"""Options of `catalog_command`, by the panel of ``--help`` in which they stand."""


def catalog_command(
    input: Annotated[
        str, path_argument(metavar="INPUT", help="Directory or s3:// prefix of the tiles.")
    ],
    out: Annotated[
        str, path_argument(metavar="OUT", help="Directory or s3:// prefix of the catalog.")
    ],
    bands: Bands,
    survey: LayoutsSurvey = "auto",
    deblender: Deblender = "joint",
    weights: Weights = None,
    photometry: Annotated[
        str,
        typer.Option(help="auto, ngmix, mixture or joint.", autocompletion=completed(PHOTOMETRY)),
    ] = "auto",
    seed: Seed = 0,
    gpus: Gpus = None,
    address: Address = None,
    config: OptionsFile = None,
    image_pattern: Annotated[str, reading_option(help="File names below INPUT.")] = IMAGE_PATTERN,
    psf_pattern: Annotated[str, reading_option(help="File names of the PSF stamps.")] = PSF_PATTERN,
    manifest: Annotated[
        str | None,
        reading_option(
            callback=check_paths, help="Table tile, band, image[, psf] instead of the patterns."
        ),
    ] = None,
    layout: Annotated[
        str,
        reading_option(
            help="Layout of INPUT: auto, a name from `raydeblend layouts`, or FILE.yaml."
        ),
    ] = "auto",
    zeropoint: Annotated[
        float | None, reading_option(help="AB magnitude of one count, if the files lack it.")
    ] = None,
    bad_planes: Annotated[
        str | None,
        reading_option(help="Mask planes that make a pixel unusable; by default the layout's."),
    ] = None,
    background: Annotated[
        str,
        reading_option(help="local: subtract the sky; none: already subtracted; auto: by layout."),
    ] = "auto",
    positions: Annotated[
        str | None,
        reading_option(
            callback=check_paths, help="Table of ra, dec[, id]: measure there, detect nothing."
        ),
    ] = None,
    templates: Annotated[
        str | None,
        reading_option(
            callback=check_paths,
            help="An earlier run, or a table of shapes: fit only the fluxes of its galaxies.",
        ),
    ] = None,
    threshold: Annotated[float, detection_option(help="Detection threshold in sigma.")] = 5.0,
    min_area: Annotated[int, detection_option(help="Fewest pixels of a footprint.")] = 5,
    noise: Annotated[
        str,
        detection_option(help="correlated: measure the covariance of pixels; or independent."),
    ] = "correlated",
    deblend_singles: Annotated[
        bool,
        detection_option(
            "--deblend-singles/--only-blends",
            help="Whether to deblend footprints with one peak too.",
        ),
    ] = True,
    suspect_threshold: Annotated[
        float, deblending_option(help="Probability above which a source is deblended as two.")
    ] = 0.5,
    second_opinion: Annotated[
        str | None,
        deblending_option(
            help="Another deblender for blends; `disagreement` is how far it differs.",
            autocompletion=completed(DEBLENDERS),
        ),
    ] = None,
    second_opinion_fraction: Annotated[
        str, deblending_option(help="Fraction of the blends that it sees: 0 to 1, or all.")
    ] = "all",
    free_positions: Annotated[
        bool,
        deblending_option(
            "--free-positions", help="Let the fit move --positions by fractions of a pixel."
        ),
    ] = False,
    inject: Annotated[
        float,
        checks_option(help="Sources per arcmin² injected into a copy of each cell; 0: none."),
    ] = INJECT,
    max_suspect: Annotated[
        float,
        checks_option(min=0, max=1, help="Largest fraction of suspect cells without exit code 1."),
    ] = 0.1,
    part: Annotated[
        str | None, selection_option(help="Do one part of the tiles: 2/4 is the second of four.")
    ] = None,
    only: Annotated[
        str | None,
        selection_option(metavar="TILE[/CELL],…", help="Only these tiles or cells of the survey."),
    ] = None,
    region: Annotated[
        str | None,
        selection_option(
            metavar="RA,DEC,RADIUS",
            help="Only cells within RADIUS of a place, in degrees or as 6arcmin.",
        ),
    ] = None,
    resume: Annotated[
        bool, selection_option("--resume", help="Process what the ledger lacks.")
    ] = False,
    overwrite: Annotated[
        bool, selection_option("--overwrite", help="Replace an earlier run.")
    ] = False,
    retry_failed: Annotated[
        bool, selection_option("--retry-failed", help="With --resume: only the cells that failed.")
    ] = False,
    retry_limited: Annotated[
        bool,
        selection_option(
            "--retry-limited",
            help="With --resume: redo footprints that reached a work limit, with more work.",
        ),
    ] = False,
    more_work: Annotated[
        float, selection_option(help="Factor on the usual work limits for --retry-limited.")
    ] = 4.0,
    accept_other_versions: Annotated[
        bool,
        selection_option("--accept-other-versions", help="Resume a run that other versions began."),
    ] = False,
    cell_size: Annotated[int, run_option(help="Side of a cell in pixels.")] = 1024,
    border: Annotated[int, run_option(help="Border read around a cell, in pixels.")] = 96,
    cell_timeout: Annotated[
        float,
        run_option(
            help="Time limit in seconds for detection, deblending or measurement of one cell, "
            "after which the cell fails and the run continues."
        ),
    ] = 7200.0,
    patience: Annotated[
        float | None,
        run_option(
            help="Seconds without any progress (a hanging read, no worker) after which the "
            "remaining cells fail; by default the run waits forever.",
        ),
    ] = None,
    memory_per_cell: Annotated[
        float | None,
        run_option(help="GiB to reserve for a cell; with less memory, fewer run at a time."),
    ] = None,
    save: Annotated[
        str, run_option(help="Products to keep: models, residual, segmentation; none by default.")
    ] = "",
    log_json: Annotated[
        bool, run_option("--log-json", help="Write a line of JSON per cell to standard error.")
    ] = False,
    price: Annotated[
        float | None,
        run_option(
            help="Price of a core-hour, for the cost of 1,000 square degrees in summary.json."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        run_option("--dry-run", help="Print what there is to do and how long it would take."),
    ] = False,
) -> None:
    """Make the deblended catalog of the tiles in INPUT."""
    _refuse_dropped_options(image_pattern, psf_pattern, manifest, layout)
    _refuse_without_resume(
        resume, accept_other_versions=accept_other_versions, retry_limited=retry_limited
    )
    if not more_work > 1:
        raise ConfigError(f"--more-work must be a factor above 1, not {more_work:g}")
    _check_seconds(patience=patience, cell_timeout=cell_timeout)
    # These imports take seconds.
    log.info("loading the pipeline")
    from raydeblend.pipeline.execution import Execution
    from raydeblend.pipeline.preparation import RunRequest
    from raydeblend.pipeline.region import parse_region
    from raydeblend.pipeline.selection import Selection
    from raydeblend.pipeline.summary import summary_lines
    from raydeblend.pipeline.survey import run_catalog

    selection = Selection(only, None if region is None else parse_region(region), retry_failed)
    run = CatalogConfig(
        bands=split_names(bands),
        survey=survey,
        deblender=deblender,
        weights=weights,
        photometry=photometry,
        cell_size=cell_size,
        border=border,
        image_pattern=image_pattern,
        psf_pattern=psf_pattern,
        manifest=manifest,
        layout=layout,
        zeropoint=zeropoint,
        bad_planes=None if bad_planes is None else split_names(bad_planes),
        deblend_singles=deblend_singles,
        background=background,
        noise=noise,
        detect_threshold=threshold,
        detect_min_area=min_area,
        suspect_threshold=suspect_threshold,
        second_opinion=second_opinion,
        second_opinion_fraction=_fraction(second_opinion_fraction),
        seed=seed,
        save=split_names(save) if save else (),
        inject=inject,
        positions=positions,
        free_positions=free_positions,
        templates=templates,
    )
    request = RunRequest(
        resume=resume,
        overwrite=overwrite,
        accept_other_versions=accept_other_versions,
        part=part,
        retry_limited=more_work if retry_limited else None,
        selection=selection,
        price=price,
    )
    if dry_run:
        from raydeblend.pipeline.forecast import forecast_catalog, forecast_lines

        forecast = forecast_catalog(input, out, run, request, address)
        print("\n".join(forecast_lines(forecast)))
        return
    execution = Execution(address, gpus, memory_per_cell, cell_timeout, patience)
    summary = run_catalog(input, out, run, request, execution, log_json=log_json)
    print("\n".join(summary_lines(summary)))
    too_many = summary.n_suspect > max_suspect * summary.n_cells
    if summary.n_failed or summary.is_blank or too_many:
        raise typer.Exit(EXIT_FAILED_CELLS)


def _refuse_without_resume(resume: bool, **given: bool) -> None:
    for name, is_given in given.items():
        if is_given and not resume:
            raise ConfigError(f"--{name.replace('_', '-')} requires --resume")


def _check_seconds(**given: float | None) -> None:
    for name, seconds in given.items():
        if seconds is not None and not seconds > 0:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} must be a number of seconds above 0, not {seconds:g}")


def _refuse_dropped_options(
    image_pattern: str, psf_pattern: str, manifest: str | None, layout: str
) -> None:
    """Refuse names of files that another option replaces."""
    names_files = layout not in ("auto", "native")
    others = {
        "--image-pattern": image_pattern != IMAGE_PATTERN,
        "--psf-pattern": psf_pattern != PSF_PATTERN,
        "--layout": manifest is not None and names_files,
    }
    given = [name for name, is_given in others.items() if is_given]
    winner = "--manifest" if manifest is not None else f"--layout {layout}"
    if given and (manifest is not None or names_files):
        raise ConfigError(f"{winner} says which files are read; leave out {', '.join(given)}")


def _fraction(text: str) -> float:
    """Return the part of the blends for a second opinion."""
    try:
        return 1.0 if text == "all" else float(text)
    except ValueError as error:
        raise ConfigError(
            f"--second-opinion-fraction must be all or a number from 0 to 1, not {text!r}"
        ) from error


def layouts_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Print the YAML of one, for example to change it."),
    ] = None,
) -> None:
    """List the layouts in which tiles are read, or print one."""
    from raydeblend.fits.layouts import describe, text_of

    print("\n".join(describe()) if name is None else text_of(name))


def deblend_command(
    source: Annotated[str, path_argument(metavar="IN.npz", help="Stamps to deblend.")],
    out: Annotated[str, path_argument(metavar="OUT.npz", help="Models, positions, quality.")],
    deblender: Deblender = "joint",
    weights: Weights = None,
    config: OptionsFile = None,
) -> None:
    """Deblend an array of stamps: models (n, k, bands, y, x) out."""
    from raydeblend.deblend import load_deblender
    from raydeblend.deblend.arrays import deblend_file

    result = deblend_file(source, out, load_deblender(deblender, weights=weights))
    sources = amount(int(result.n_sources.sum()), "source")
    print(f"{sources} in {amount(len(result.n_sources), 'stamp')}: {out}")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("catalog")(catalog_command)
    app.command("layouts")(layouts_command)
    app.command("deblend")(deblend_command)
