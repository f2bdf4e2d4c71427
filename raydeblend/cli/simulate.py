"""The commands that simulate: tiles of the sky, and blends.  Arguments in, one call out."""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated

import typer

from raydeblend.cli.options import (
    Address,
    Bands,
    OptionsFile,
    Overwrite,
    Seed,
    path_argument,
    path_option,
    split_names,
)
from raydeblend.errors import ConfigError
from raydeblend.wording import amount

log = logging.getLogger(__name__)

Survey = Annotated[
    str, typer.Option(help="Survey for PSF, noise and pixel scale: a name or FILE.yaml.")
]
Split = Annotated[str, typer.Option(help="Split of the real galaxies: train, validation or test.")]
StampFolder = Annotated[
    str | None,
    path_option(help="Folder of HST galaxies; without it, simulated clumpy ones are used."),
]

simulate = typer.Typer(no_args_is_help=True, help="Simulate survey tiles or blends, with truth.")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(simulate, name="simulate")


@simulate.command("tiles")
def simulate_tiles_command(
    out: Annotated[
        str, path_argument(metavar="OUT", help="Directory or s3:// prefix for tiles and truth.")
    ],
    survey: Survey = "HSC",
    bands: Bands = "g,r,i",
    n_tiles: Annotated[int, typer.Option(min=1, help="Tiles on one sky grid.")] = 1,
    size: Annotated[int, typer.Option(min=64, help="Side of a tile in pixels.")] = 1024,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels shared by neighbors.")] = 0,
    density: Annotated[
        float | None, typer.Option(help="Galaxies per square arcminute; by default as observed.")
    ] = None,
    population: Annotated[
        str,
        typer.Option(help="cosmos (shapes, clusters, stars as observed), parametric or catsim."),
    ] = "parametric",
    split: Split = "train",
    stamps: StampFolder = None,
    catalog: Annotated[str | None, path_option(help="catsim: table of galaxies.")] = None,
    psf_variation: Annotated[
        str, typer.Option(help="Variation of the PSF over a tile: none, smooth, or cells (jumps).")
    ] = "none",
    psf_cells: Annotated[
        int, typer.Option(min=1, help="Cells along a tile's side, each with its own PSF.")
    ] = 3,
    correlated_noise: Annotated[
        bool, typer.Option("--correlated-noise", help="Noise as in resampled exposures.")
    ] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    address: Address = None,
    config: OptionsFile = None,
) -> None:
    """Write FITS tiles on one sky grid and truth.parquet."""
    from raydeblend.simulate.tiles import simulate_tiles

    written = simulate_tiles(
        out,
        survey,
        split_names(bands),
        n_tiles,
        size,
        overlap,
        seed,
        density,
        address,
        on_tile=partial(log.info, "tile %s"),
        population=population,
        split=split,
        stamps=stamps,
        catalog=catalog,
        psf_variation=psf_variation,
        psf_cells=psf_cells,
        overwrite=overwrite,
        correlated_noise=correlated_noise,
    )
    sources = amount(written.n_sources, "source")
    print(f"{sources} on {amount(len(written.tiles), 'tile')}; truth: {written.truth}")


@simulate.command("singles")
def simulate_singles_command(
    out: Annotated[
        str, path_argument(metavar="OUT", help="Directory or s3:// prefix for the tile and truth.")
    ],
    survey: Survey = "HSC",
    bands: Bands = "g,r,i",
    n: Annotated[int, typer.Option(min=1, help="Galaxies of each class and magnitude.")] = 4,
    classes: Annotated[
        str | None, typer.Option(help="By default all: Sérsic indices, bd, real, hudf.")
    ] = None,
    large: Annotated[
        bool, typer.Option("--large", help="Half-light radii of 1.5 to 5 arcsec.")
    ] = False,
    split: Split = "train",
    stamps: StampFolder = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    config: OptionsFile = None,
) -> None:
    """Write one tile of isolated galaxies of known class, i = 19 to 23, and truth.parquet."""
    from dataclasses import replace

    from raydeblend.simulate.singles import LARGE, SinglesPlan
    from raydeblend.simulate.tiles import simulate_singles

    plan = replace(LARGE if large else SinglesPlan(), repeats=n)
    if classes is not None:
        plan = replace(plan, classes=split_names(classes))
    written = simulate_singles(
        out, survey, split_names(bands), plan, seed, split, stamps, overwrite
    )
    print(f"{written.n_sources} galaxies; truth: {written.truth}")


@simulate.command("neighbors")
def simulate_neighbors_command(
    out: Annotated[
        str, path_argument(metavar="OUT", help="Directory or s3:// prefix for the tile and truth.")
    ],
    kind: Annotated[
        str, typer.Option(help="pairs, or stars with galaxies next to them.")
    ] = "pairs",
    survey: Survey = "HSC",
    bands: Bands = "g,r,i",
    n: Annotated[int, typer.Option(min=1, help="Pairs or stars.")] = 100,
    split: Split = "train",
    stamps: StampFolder = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    config: OptionsFile = None,
) -> None:
    """Write one tile of close pairs, or of stars of i = 15.5 to 20.5, and truth.parquet."""
    from raydeblend.simulate.tiles import simulate_neighbors

    written = simulate_neighbors(
        out, survey, split_names(bands), kind, n, seed, split, stamps, overwrite
    )
    print(f"{written.n_sources} sources; truth: {written.truth}")


@simulate.command("blends")
def simulate_blends_command(
    out: Annotated[
        str, path_argument(metavar="OUT", help="An .npz file or a directory, local or s3://.")
    ],
    protocol: Annotated[str, typer.Option(help="Protocol of the blends: wang2022.")] = "wang2022",
    n: Annotated[int, typer.Option(min=1, help="Blends of two and as many of three.")] = 1000,
    training: Annotated[
        bool,
        typer.Option("--training", help="Shards of N isolated galaxies for `raydeblend train`."),
    ] = False,
    catalog: Annotated[
        str | None, path_option(help="CatSim table of galaxies instead of the parametric ones.")
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    address: Address = None,
    config: OptionsFile = None,
) -> None:
    """Write a test set that `evaluate --data` reads, or shards that `train --shards` reads."""
    from raydeblend.simulate.protocols import check_protocol, write_blends

    check_protocol(protocol)
    if training:
        if overwrite:
            raise ConfigError("--training renders what is missing; leave out --overwrite")
        from raydeblend.train.loop import render_training

        print("\n".join(render_training(out, n, seed, catalog, address)))
        return
    if address is not None:
        raise ConfigError("--address requires --training; blends are drawn in this process")
    path = write_blends(out, protocol, n, seed, catalog, overwrite)
    print(f"{n} blends of two and {n} of three galaxies in {path}")
