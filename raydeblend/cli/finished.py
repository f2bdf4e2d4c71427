"""The commands on a finished catalog: verify, inspect, map, export.  Arguments in, one call out."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from raydeblend.cli.options import (
    EXIT_FAILED_CELLS,
    Overwrite,
    path_argument,
    path_option,
    split_names,
)
from raydeblend.wording import amount, fitted

log = logging.getLogger(__name__)

Out = Annotated[str, path_argument(metavar="OUT", help="Directory or s3:// prefix of the catalog.")]
Outs = Annotated[
    list[str],
    path_argument(
        metavar="OUT", help="Catalogs (directory or s3:// prefix) of all parts, or a pattern."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an unfinished export.")]
ReplaceHats = Annotated[bool, typer.Option("--overwrite", help="Replace the contents of HATS_DIR.")]

export = typer.Typer(no_args_is_help=True, help="Write a catalog in the formats of other tools.")


def verify_command(
    outs: Outs,
) -> None:
    """Check that a catalog is complete: every cell done, plan, ledger and shards agree.

    Prints counts of cells, examples of problems, and the command that does the rest.  Exit
    code 1: a cell is not done, or there is a problem.
    """
    from raydeblend.pipeline.verdict import verdict_lines
    from raydeblend.pipeline.verify import check_parts

    verdict = check_parts(outs)
    print("\n".join(verdict_lines(verdict)))
    if not verdict.complete:
        raise typer.Exit(EXIT_FAILED_CELLS)


@export.command("hats")
def export_hats_command(
    outs: Outs,
    target: Annotated[
        str, path_argument(metavar="HATS_DIR", help="Directory or s3:// prefix to create.")
    ],
    all_rows: Annotated[
        bool,
        typer.Option("--all-rows", help="Keep the copies of sources in overlapping tiles too."),
    ] = False,
    margin: Annotated[float, typer.Option(help="Margin cache in arcsec.")] = 10.0,
    rows_per_partition: Annotated[
        int, typer.Option(help="Largest number of rows in a HEALPix partition.")
    ] = 1_000_000,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes here; by default one per CPU, up to 8.")
    ] = None,
    resume: Resume = False,
    overwrite: ReplaceHats = False,
) -> None:
    """Write OUT as a HATS catalog with margin cache, which LSDB opens and cross-matches.

    A source is exported once: only the primary of its copies in overlapping tiles.
    Needs pip install 'raydeblend[hats]'.
    """
    from raydeblend.export.hats import HatsConfig, export_hats

    config = HatsConfig(all_rows, margin, rows_per_partition)
    done = export_hats(
        outs,
        target,
        config,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
    )
    if done.n_failed:
        log.warning(
            "%d cells of %s had failed and are not in the export", done.n_failed, " ".join(outs)
        )
    print(
        f"{amount(done.n_rows, 'row')} in {amount(done.n_partitions, 'partition')}, "
        f"{done.n_margin_rows} in the margin, {done.seconds:.1f} s\nhats: {done.path}"
    )


Target = Annotated[str, path_argument(metavar="FILE", help="The file to write, local or s3://.")]
AllRows = Annotated[
    bool, typer.Option("--all-rows", help="Keep the copies of sources in overlapping tiles too.")
]


@export.command("fits")
def export_fits_command(
    outs: Outs, target: Target, all_rows: AllRows = False, overwrite: Overwrite = False
) -> None:
    """Write OUT as one FITS table with units, descriptions and UCDs, for TOPCAT and astropy."""
    _export_table(outs, target, "fits", all_rows, overwrite)


@export.command("votable")
def export_votable_command(
    outs: Outs, target: Target, all_rows: AllRows = False, overwrite: Overwrite = False
) -> None:
    """Write OUT as one VOTable with units, descriptions and UCDs."""
    _export_table(outs, target, "votable", all_rows, overwrite)


@export.command("csv")
def export_csv_command(
    outs: Outs, target: Target, all_rows: AllRows = False, overwrite: Overwrite = False
) -> None:
    """Write OUT as CSV; as ECSV, which keeps units and descriptions, if FILE ends in .ecsv."""
    _export_table(outs, target, "csv", all_rows, overwrite)


def _export_table(outs: list[str], target: str, kind: str, all_rows: bool, overwrite: bool) -> None:
    from raydeblend.export.single_table import export_table

    n_rows = export_table(outs, target, kind, all_rows=all_rows, overwrite=overwrite)
    print(f"{amount(n_rows, 'row')}: {target}")


@export.command("lsst")
def export_lsst_command(
    outs: Outs,
    folder: Annotated[
        str, path_argument(metavar="DIR", help="Directory or s3:// prefix for the tables.")
    ],
    all_rows: AllRows = False,
    overwrite: Overwrite = False,
) -> None:
    """Write OUT as tables Object and Parent under the Rubin Observatory's column names.

    A column has Rubin's name if it means the same, else ours. DIR/schema.yaml describes each in
    felis, the language of Rubin's schemas.
    """
    from raydeblend.export.lsst import export_lsst

    done = export_lsst(outs, folder, all_rows=all_rows, overwrite=overwrite)
    objects, parents = amount(done.n_objects, "object"), amount(done.n_parents, "parent")
    print(f"{objects}, {parents}: {done.folder}")


@export.command("rail")
def export_rail_command(
    outs: Outs,
    target: Annotated[
        str, path_argument(metavar="FILE.parquet", help="The file to write, local or s3://.")
    ],
    least_snr: Annotated[
        float, typer.Option(help="Fluxes below this many errors count as not detected.")
    ] = 1.0,
    all_rows: AllRows = False,
    overwrite: Overwrite = False,
) -> None:
    """Write OUT as magnitudes and errors for the photometric redshifts of RAIL.

    Non-detections are 99, values that were not measured NaN. FILE.yaml has the parameters for
    RAIL's stages.
    """
    from raydeblend.export.rail import RailConfig, export_rail

    n_rows = export_rail(outs, target, RailConfig(all_rows, least_snr), overwrite=overwrite)
    print(f"{amount(n_rows, 'row')}: {target}")


def inspect_command(
    outs: Outs,
    target: Annotated[
        str, typer.Argument(metavar="SOURCE_ID|RA,DEC", help="A source, or degrees near one.")
    ],
    picture: Annotated[
        str | None,
        path_option(
            "--out", help="A .png, .pdf or .svg file; by default blend_<source_id>.png here."
        ),
    ] = None,
) -> None:
    """Draw the blend of a source: image, models, residual, neighbors and measurements.

    Reads the tile and deblends the footprint again with the stages that made the catalog; saved
    models are drawn as they are.
    """
    from raydeblend.draw.inspect import inspect_source

    seen = inspect_source(outs, target, picture)
    print(f"{amount(seen.n_sources, 'source')}, source_id {seen.source_id}: {seen.picture}")


def map_command(
    outs: Outs,
    folder: Annotated[
        str | None,
        path_option("--out", help="Directory for the maps; by default OUT/maps of one OUT."),
    ] = None,
    what: Annotated[
        str,
        typer.Option(
            help="Which maps: depth, density, failures, blended; with injected sources "
            "completeness, bias, pulls; by default all."
        ),
    ] = "",
    overwrite: Overwrite = False,
) -> None:
    """Draw sky maps by cell: depth, density, failures, blends, recovery of injected sources."""
    from raydeblend.draw.maps import map_catalog

    print("\n".join(map_catalog(outs, folder, overwrite, split_names(what))))


def injected_command(
    out: Out,
    step: Annotated[float, typer.Option(help="Width of a bin in magnitudes.")] = 0.5,
    nside: Annotated[
        int | None, typer.Option(help="By HEALPix pixel instead, ring scheme: 64, 128, ….")
    ] = None,
) -> None:
    """Print how well the sources injected into copies of OUT's cells were recovered, by magnitude.

    Galaxies of the realistic population: completeness, shredding, flux bias, pulls, astrometry.
    """
    from raydeblend.draw.injected import healpix_lines, injected_lines

    lines = injected_lines(out, step) if nside is None else healpix_lines(out, nside)
    print(fitted("\n".join(lines)))


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("verify")(verify_command)
    # Otherwise a position such as -1.5,-0.3 would be taken for options.
    app.command("inspect", context_settings={"ignore_unknown_options": True})(inspect_command)
    app.command("map")(map_command)
    app.command("injected")(injected_command)
    app.add_typer(export, name="export")
