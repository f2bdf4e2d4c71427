"""The command that makes PSFs from stars.  Arguments in, one call out."""

from __future__ import annotations

from typing import Annotated

import typer

from raydeblend.cli.options import (
    EXIT_FAILED_CELLS,
    Bands,
    LayoutsSurvey,
    path_argument,
    path_option,
    split_names,
)
from raydeblend.config import IMAGE_PATTERN, CatalogConfig


def psf_command(
    input: Annotated[
        str, path_argument(metavar="INPUT", help="Directory or s3:// prefix of the tiles.")
    ],
    out: Annotated[
        str, path_argument(metavar="OUT", help="Directory or s3:// prefix of the PSFs.")
    ],
    bands: Bands,
    survey: LayoutsSurvey = "auto",
    image_pattern: Annotated[str, typer.Option(help="File names below INPUT.")] = IMAGE_PATTERN,
    layout: Annotated[str, typer.Option(help="Layout of INPUT, as for catalog.")] = "auto",
    background: Annotated[
        str,
        typer.Option(help="local: subtract the sky; none: already subtracted; auto: by layout."),
    ] = "auto",
    picture: Annotated[
        str | None, path_option(help="PNG to write; by default psf.png in OUT.")
    ] = None,
) -> None:
    """Make PSFs from the stars of tiles that come without one.

    Writes OUT/{tile}_{band}_psf.fits, a figure, and OUT/manifest.parquet, for
    `raydeblend catalog INPUT CATALOG --manifest OUT/manifest.parquet`.  Exit code 1: a band has
    too few stars.
    """
    from raydeblend import storage
    from raydeblend.draw.psf_figure import psf_figure
    from raydeblend.pipeline.inputs import with_layout
    from raydeblend.stellar_psf.make import make_psfs

    config = CatalogConfig(
        bands=split_names(bands),
        survey=survey,
        image_pattern=image_pattern,
        layout=layout,
        background=background,
    )
    made = make_psfs(input, out, with_layout(config, input))
    for (tile, band), psf in made.psfs.items():
        print(f"{tile} {band}: {len(psf.stars)} stars, order {psf.terms.order}")
    storage.write_bytes(picture or storage.join(out, "psf.png"), psf_figure(made.psfs))
    print(f"manifest: {made.manifest}")
    for reason in made.failures.values():
        print(f"no PSF: {reason}")
    if made.failures:
        raise typer.Exit(EXIT_FAILED_CELLS)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("psf")(psf_command)
