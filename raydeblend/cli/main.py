"""The command line: arguments in, one call out.

Exit codes: 0 done; 1 finished, but some cells failed, or training diverged or collapsed; 2
unusable arguments or input.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from raydeblend import storage
from raydeblend.cli import finished as products
from raydeblend.cli import simulate as skies
from raydeblend.cli.options import Address, Bands, OptionsFile, Seed, split_names
from raydeblend.config import DEBLENDERS, CatalogConfig
from raydeblend.deblend import load_deblender
from raydeblend.errors import ConfigError
from raydeblend.fits import IMAGE_PATTERN, PSF_PATTERN
from raydeblend.train.stopping import TrainingError

EXIT_FAILED_CELLS = 1
EXIT_TRAINING_STOPPED = 1
EXIT_UNUSABLE = 2

NETWORKS = (
    "gan", "srgan", "srgan-multiband", "branched", "rdn", "counter", "rdn-joint", "vae",
    "vae-deblend",
)  # fmt: skip
"""Listed here too, since the table of `raydeblend.train.families` loads torch."""

SUSPECT_OPTIONS = ("out", "preset", "seed")
"""What the calibration of unrecognized blends takes, of the options of `train`."""

app = typer.Typer(
    name="raydeblend",
    help="Deblended galaxy catalogs from survey images, with neural deblenders on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
skies.register(app)
products.register(app)

log = logging.getLogger(__name__)


class Preset(StrEnum):
    """Sizes of a network."""

    paper = "paper"
    small = "small"
    tiny = "tiny"


Gpus = Annotated[
    int | None, typer.Option(min=0, help="GPUs to ask for; by default those that there are.")
]
DEBLENDER_HELP = f"One of {', '.join(DEBLENDERS)}, or your own as module:name."
Deblenders = Annotated[
    list[str] | None, typer.Option("--deblender", help=f"{DEBLENDER_HELP} By default joint.")
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; an error that a user can mend becomes one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        app(args=None if arguments is None else list(arguments))
    except ConfigError as error:
        print(f"raydeblend: {error}", file=sys.stderr)
        sys.exit(EXIT_UNUSABLE)
    except TrainingError as error:
        print(f"raydeblend: {error}", file=sys.stderr)
        sys.exit(EXIT_TRAINING_STOPPED)
    except storage.READ_ERRORS as error:
        print(f"raydeblend: the storage failed: {storage.explain(error)}", file=sys.stderr)
        sys.exit(EXIT_FAILED_CELLS)


@app.command()
def train(
    context: typer.Context,
    network: Annotated[
        str,
        typer.Argument(
            help=f"One of {', '.join(NETWORKS)}; suspect: the calibration of unrecognized blends."
        ),
    ],
    out: Annotated[str, typer.Option(help="Directory or s3:// prefix of the run.")],
    preset: Annotated[Preset, typer.Option(help="Size of network and run.")] = Preset.paper,
    workers: Annotated[int, typer.Option(min=1, help="Ray Train workers.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
    shards: Annotated[
        str | None, typer.Option(help="Where images made for training are kept; default OUT.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Instead of the preset's, separated by commas.")
    ] = None,
    surveys: Annotated[
        str | None, typer.Option(help="Whose PSF, noise and pixel scale, separated by commas.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Folder of HST stamps, COSMOS catalogs or Galaxy Zoo pictures."),
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="CatSim table of galaxies instead of the parametric ones.")
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Test set (.npz) whose galaxies are left out of --catalog.")
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
        str | None, typer.Option(help="rdn-joint: phase one's deblender, a file or shipped name.")
    ] = None,
    counter_weights: Annotated[
        str | None, typer.Option(help="rdn-joint: phase one's counter, a file or shipped name.")
    ] = None,
    vae_weights: Annotated[
        str | None, typer.Option(help="vae-deblend: stage one's VAE, a file or shipped name.")
    ] = None,
    srgan_weights: Annotated[
        str | None, typer.Option(help="srgan: weights to start from, a file or shipped name.")
    ] = None,
    vgg19_weights: Annotated[
        str | None, typer.Option(help="branched: torchvision's VGG-19 state dict, a file.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Per epoch.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Over all workers.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the preset's.")] = None,
    n_galaxies: Annotated[int | None, typer.Option(min=1, help="Galaxies to render.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    gpus: Gpus = None,
    address: Address = None,
    config: OptionsFile = None,
) -> None:
    """Train a network on Ray Train and export its weights.

    An option that the network does not have is refused.  Exit code 1: training diverged, or a
    generator collapsed; the checkpoints are kept.
    """
    if network == "suspect":
        _refuse_other_options(context, "train suspect", SUSPECT_OPTIONS, "the networks")
        from raydeblend.calibrate.training import train_suspects

        trained = train_suspects(out, preset.value, seed or 0)
        print(f"{trained.report}\nweights: {trained.weights}")
        return
    from raydeblend.train.loop import train as run

    result = run(
        network,
        out,
        preset=preset.value,
        workers=workers,
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
        learning_rate=learning_rate,
        n_galaxies=n_galaxies,
        seed=seed,
    )
    print(f"weights: {result.weights}")


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


@app.command()
def catalog(
    input: Annotated[str, typer.Argument(help="Directory or s3:// prefix of the tiles.")],
    out: Annotated[str, typer.Argument(help="Directory or s3:// prefix of the catalog.")],
    bands: Bands,
    survey: Annotated[str, typer.Option(help="Known bands and nominal PSFs.")] = "HSC",
    deblender: Annotated[str, typer.Option(help=DEBLENDER_HELP)] = "joint",
    photometry: Annotated[str, typer.Option(help="auto, ngmix, mixture or joint.")] = "auto",
    cell_size: Annotated[int, typer.Option(help="Side of a cell in pixels.")] = 1024,
    border: Annotated[int, typer.Option(help="Overlap read around a cell, in pixels.")] = 96,
    image_pattern: Annotated[str, typer.Option(help="File names below INPUT.")] = IMAGE_PATTERN,
    psf_pattern: Annotated[str, typer.Option(help="File names of the PSF stamps.")] = PSF_PATTERN,
    manifest: Annotated[
        str | None, typer.Option(help="Table tile, band, image[, psf] instead of the patterns.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Names of files: native (the patterns), or as hsc or lsst deliver.")
    ] = "native",
    zeropoint: Annotated[
        float | None, typer.Option(help="AB magnitude of one count where the files do not say.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Detection threshold in sigma.")] = 5.0,
    suspect_threshold: Annotated[
        float, typer.Option(help="Probability from which a source is deblended as two.")
    ] = 0.5,
    seed: Seed = 0,
    part: Annotated[str | None, typer.Option(help="A part of the tiles, 2/4 of four runs.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Do what the ledger lacks.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    gpus: Gpus = None,
    address: Address = None,
    config: OptionsFile = None,
) -> None:
    """Make the deblended catalog of the tiles in INPUT."""
    from raydeblend.pipeline.summary import summary_lines
    from raydeblend.pipeline.survey import run_catalog

    run = CatalogConfig(
        bands=split_names(bands),
        survey=survey,
        deblender=deblender,
        photometry=photometry,
        cell_size=cell_size,
        border=border,
        image_pattern=image_pattern,
        psf_pattern=psf_pattern,
        manifest=manifest,
        layout=layout,
        zeropoint=zeropoint,
        detect_threshold=threshold,
        suspect_threshold=suspect_threshold,
        seed=seed,
    )
    summary = run_catalog(input, out, run, resume, overwrite, address, part=part, gpus=gpus)
    print("\n".join(summary_lines(summary)))
    if summary.n_failed:
        raise typer.Exit(EXIT_FAILED_CELLS)


@app.command()
def verify(
    out: Annotated[list[str], typer.Argument(help="Directory or s3:// prefix; of all parts.")],
) -> None:
    """Check that a catalog is complete: plan, ledger and shards agree, no source twice."""
    from raydeblend.pipeline.verify import verify_parts

    problems = verify_parts(out)
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(EXIT_FAILED_CELLS)
    print(f"{', '.join(out)} {'is' if len(out) == 1 else 'are'} complete")


@app.command()
def deblend(
    source: Annotated[str, typer.Argument(metavar="IN.npz", help="Stamps to deblend.")],
    out: Annotated[str, typer.Argument(metavar="OUT.npz", help="Models, positions, quality.")],
    deblender: Annotated[str, typer.Option(help=DEBLENDER_HELP)] = "joint",
    config: OptionsFile = None,
) -> None:
    """Deblend an array of stamps: models (n, k, bands, y, x) out."""
    from raydeblend.deblend.arrays import deblend_file

    result = deblend_file(source, out, load_deblender(deblender))
    print(f"{int(result.n_sources.sum())} sources in {len(result.n_sources)} stamps: {out}")


@app.command()
def evaluate(
    protocol: Annotated[
        str,
        typer.Argument(
            help="wang2022, reiman2019, nemani2023, hemmati2022, madness, survey, hsc-blends, "
            "hst-pair or gan."
        ),
    ],
    out: Annotated[str, typer.Option(help="Directory for metrics.json, tables and figures.")],
    deblender: Deblenders = None,
    data: Annotated[
        str | None,
        typer.Option(help="Test set (.npz) instead of a drawn one; a folder for the others."),
    ] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Blends of each number of galaxies.")] = None,
    catalog: Annotated[
        str | None, typer.Option(help="nemani2023: COSMOS fits, madness: CatSim, to draw from.")
    ] = None,
    bands: Annotated[
        int | None, typer.Option(help="hemmati2022: 1 (the default) or 7 of the network.")
    ] = None,
    seed: Seed = 0,
    config: OptionsFile = None,
) -> None:
    """Score deblenders by a paper's protocol, with sep and the paper's numbers beside.

    An option that the protocol does not use is refused.
    """
    from raydeblend.evaluate.protocol import run_evaluation

    evaluation = run_evaluation(protocol, deblender or None, data, n, out, seed, catalog, bands)
    print(evaluation.tables)
    print("\n".join(evaluation.paths))


@app.command()
def report(
    results: Annotated[list[str], typer.Argument(metavar="DIR...", help="What `evaluate` wrote.")],
    out: Annotated[str, typer.Option(help="The page, local or s3://.")] = "report.html",
) -> None:
    """Put tables, figures and provenance of any results into one HTML page that needs no other."""
    from raydeblend.evaluate.report import write_report

    size = write_report(results, out)
    print(f"{len(results)} results, {size / 1e6:.1f} MB: {out}")


@app.command()
def weights() -> None:
    """List the shipped weights: bands, pixel scale, training data, scores."""
    from raydeblend.networks.weights import describe_shipped

    print(describe_shipped())


@app.command()
def demo(
    out: Annotated[str, typer.Argument(help="Directory for tiles, catalog and figure.")] = "demo",
) -> None:
    """Simulate a small HSC-like survey, catalog it, and compare with the truth."""
    from raydeblend.demo import run_demo

    run_demo(out)


if __name__ == "__main__":
    main()
