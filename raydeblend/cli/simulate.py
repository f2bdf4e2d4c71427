"""The commands that simulate: tiles of the sky, and blends.  Arguments in, one call out."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from raydeblend.cli.options import (
    Address,
    Bands,
    OptionsFile,
    Seed,
    path_argument,
    path_option,
    split_names,
)
from raydeblend.errors import ConfigError

log = logging.getLogger(__name__)

simulate = typer.Typer(no_args_is_help=True, help="Simulate survey tiles or blends, with truth.")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(simulate, name="simulate")


@simulate.command("tiles")
def simulate_tiles_command(
    out: Annotated[str, path_argument(help="Directory or s3:// prefix for tiles and truth.")],
    survey: Annotated[str, typer.Option(help="Gives PSF, noise and pixel scale.")] = "HSC",
    bands: Bands = "g,r,i",
    n_tiles: Annotated[int, typer.Option(min=1, help="Tiles on one sky grid.")] = 1,
    size: Annotated[int, typer.Option(min=64, help="Side of a tile in pixels.")] = 1024,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels shared by neighbors.")] = 0,
    density: Annotated[
        float | None, typer.Option(help="Galaxies per square arcminute; by default as observed.")
    ] = None,
    seed: Seed = 0,
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
        on_tile=log.info,
    )
    print(f"{written.n_sources} sources on {len(written.tiles)} tiles; truth: {written.truth}")


@simulate.command("blends")
def simulate_blends_command(
    out: Annotated[str, path_argument(help="An .npz file or a directory, local or s3://.")],
    protocol: Annotated[str, typer.Option(help="Whose blends: wang2022.")] = "wang2022",
    n: Annotated[int, typer.Option(min=1, help="Blends of two and as many of three.")] = 1000,
    training: Annotated[
        bool,
        typer.Option("--training", help="Shards of N isolated galaxies for `raydeblend train`."),
    ] = False,
    catalog: Annotated[
        str | None, path_option(help="CatSim table of galaxies instead of the parametric ones.")
    ] = None,
    seed: Seed = 0,
    address: Address = None,
    config: OptionsFile = None,
) -> None:
    """Write a test set that `evaluate --data` reads, or shards that `train --shards` reads."""
    from raydeblend.simulate.protocols import check_protocol, write_blends

    check_protocol(protocol)
    if training:
        from raydeblend.train.loop import render_training

        print("\n".join(render_training(out, n, seed, catalog, address)))
        return
    if address is not None:
        raise ConfigError("--address goes with --training; blends are drawn in this process")
    path = write_blends(out, protocol, n, seed, catalog)
    print(f"{n} blends of two and {n} of three galaxies in {path}")
