"""The commands about networks: train one, list the shipped weights.  Arguments in, one call out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raydeblend.cli.options import (
    Address,
    Gpus,
    OptionsFile,
    completed,
    path_option,
    split_names,
)
from raydeblend.config import LARGEST_SEED
from raydeblend.errors import ConfigError
from raydeblend.shipped import SHIPPED
from raydeblend.wording import beside, fitted

if TYPE_CHECKING:
    from raydeblend.calibrate.frame import Trained

log = logging.getLogger(__name__)

NETWORKS = (
    "gan", "srgan", "srgan-multiband", "srflow", "branched", "rdn", "rdn-multiband", "counter",
    "rdn-joint", "vae", "vae-deblend",
)  # fmt: skip
"""Repeated here, since importing the table in `raydeblend.train.networks` loads torch."""
CALIBRATIONS = ("bad", "inputs", "suspect", "star", "structure")
CALIBRATION_OPTIONS = ("out", "preset", "seed")
"""The options of `train` that every calibration takes."""


class Preset(StrEnum):
    """Sizes of a network."""

    paper = "paper"
    small = "small"
    tiny = "tiny"


def train_command(
    context: typer.Context,
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help=f"One of {', '.join(NETWORKS)}, or your own as module:name; bad, inputs, suspect, "
            "star, structure: calibrations of p_bad, UNLIKE_TRAINING, p_unrecognized_blend, "
            "p_star and of which sources are parts of a galaxy.",
            autocompletion=completed((*NETWORKS, *CALIBRATIONS)),
        ),
    ],
    out: Annotated[str, path_option(help="Directory or s3:// prefix of the run.")],
    preset: Annotated[Preset, typer.Option(help="Size of network and run.")] = Preset.small,
    workers: Annotated[int, typer.Option(min=1, help="Ray Train workers.")] = 1,
    min_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Fewest workers to run with, if hosts come and go."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint.")
    ] = False,
    shards: Annotated[
        str | None, path_option(help="Where to keep images made for training; by default OUT.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Instead of the preset's, separated by commas.")
    ] = None,
    surveys: Annotated[
        str | None,
        typer.Option(help="Surveys for PSF, noise and pixel scale: names or FILE.yaml, by commas."),
    ] = None,
    data: Annotated[
        str | None,
        path_option(help="Folder of HST stamps, COSMOS catalogs or Galaxy Zoo pictures."),
    ] = None,
    catalog: Annotated[
        str | None, path_option(help="CatSim table of galaxies instead of the parametric ones.")
    ] = None,
    held_out: Annotated[
        str | None, path_option(help="Test set (.npz) whose galaxies to exclude from --catalog.")
    ] = None,
    blends: Annotated[
        str | None,
        typer.Option(help="branched: galaxy_zoo (maxima of pictures) or survey (sums)."),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="vae, vae-deblend: galaxies of euclid (VIS) or survey.")
    ] = None,
    adversarial: Annotated[
        str | None, typer.Option(help="gan: minimax or non-saturating loss of the generator.")
    ] = None,
    rdn_weights: Annotated[
        str | None,
        path_option(
            help="rdn-joint: phase one's deblender, rdn-multiband: what to begin from; a file or "
            "shipped name."
        ),
    ] = None,
    counter_weights: Annotated[
        str | None, path_option(help="rdn-joint: phase one's counter, a file or shipped name.")
    ] = None,
    vae_weights: Annotated[
        str | None, path_option(help="vae-deblend: stage one's VAE, a file or shipped name.")
    ] = None,
    srgan_weights: Annotated[
        str | None,
        path_option(help="srgan: weights to start from, srflow: its generator; a file or name."),
    ] = None,
    vgg19_weights: Annotated[
        str | None, path_option(help="branched: torchvision's VGG-19 state dict, a file.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps per epoch.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size over all workers.")] = None,
    images_at_once: Annotated[
        int | None,
        typer.Option(min=0, help="rdn, rdn-joint: images of a batch in memory at once; 0: all."),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the preset's.")] = None,
    n_galaxies: Annotated[int | None, typer.Option(min=1, help="Galaxies to render.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=LARGEST_SEED, help="Seed of everything random.")
    ] = None,
    gpus: Gpus = None,
    address: Address = None,
    config: OptionsFile = None,
) -> None:
    """Train a network on Ray Train and export its weights.

    An option that the network does not have is refused.  Exit code 1: training diverged, or a
    generator collapsed; the checkpoints are kept.
    """
    if network in CALIBRATIONS:
        taken = (*CALIBRATION_OPTIONS, "data") if network == "structure" else CALIBRATION_OPTIONS
        _refuse_other_options(context, f"train {network}", taken, "the networks")
        _calibrate(network, out, preset.value, seed or 0, data)
        return
    # This import takes seconds.
    log.info("loading the networks")
    from raydeblend.train.loop import train as run

    result = run(
        network,
        out,
        preset=preset.value,
        workers=workers,
        min_workers=min_workers,
        resume=resume,
        shards=shards,
        address=address,
        gpus=gpus,
        bands=split_names(bands) if bands is not None else None,
        surveys=split_names(surveys) if surveys is not None else None,
        data=data,
        catalog=catalog,
        held_out=held_out,
        blends=blends,
        images=images,
        adversarial=adversarial,
        rdn_weights=rdn_weights,
        counter_weights=counter_weights,
        vae_weights=vae_weights,
        srgan_weights=srgan_weights,
        vgg19_weights=vgg19_weights,
        epochs=epochs,
        steps=steps,
        batch=batch,
        images_at_once=images_at_once,
        learning_rate=learning_rate,
        n_galaxies=n_galaxies,
        seed=seed,
    )
    print(f"weights: {result.weights}")


def _calibrate(name: str, out: str, preset: str, seed: int, data: str | None) -> None:
    """Fit a calibration and print its report."""
    # Each is imported only if it is asked for: these imports take seconds.
    trained: Trained[Any]
    if name == "structure":
        from raydeblend.calibrate.structure import train_structure

        trained = train_structure(out, preset, seed, data)
    elif name == "star":
        from raydeblend.calibrate.stars import train_stars

        trained = train_stars(out, preset, seed)
    elif name == "bad":
        from raydeblend.calibrate.bad import train_bad

        trained = train_bad(out, preset, seed)
    elif name == "inputs":
        from raydeblend.calibrate.inputs import train_inputs

        trained = train_inputs(out, preset, seed)
    else:
        from raydeblend.calibrate.suspects import train_suspects

        trained = train_suspects(out, preset, seed)
    print(f"{fitted(trained.report)}\nweights: {trained.weights}")


def _refuse_other_options(
    context: typer.Context, command: str, taken: Sequence[str], owner: str
) -> None:
    """Refuse options, of the command line or of a file of options, that would be dropped."""
    sources = {
        parameter.opts[0]: context.get_parameter_source(str(parameter.name))
        for parameter in context.command.params
        if parameter.name not in (*taken, "network", "config")
    }
    dropped = [name for name, source in sources.items() if source and source.name != "DEFAULT"]
    if dropped:
        raise ConfigError(
            f"{command} does not take {', '.join(dropped)}, which {owner} take; it has "
            f"{', '.join(f'--{name}' for name in taken)}"
        )


def _shipped(incomplete: str) -> list[str]:
    """Complete the name of shipped weights."""
    return completed(sorted(card.stem for card in SHIPPED.glob("*.json")))(incomplete)


def weights_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Weights whose card to print.", autocompletion=_shipped
        ),
    ] = None,
) -> None:
    """List the shipped weights and calibrations: bands, scale, data; or print one card."""
    from raydeblend.networks.listing import describe_shipped, list_shipped

    if name is None:
        print("\n".join(beside(*line) for line in list_shipped()))
    else:
        print(describe_shipped(name))


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("train")(train_command)
    app.command("weights")(weights_command)
