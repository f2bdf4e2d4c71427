"""The commands that score: evaluate, report, demo.  Arguments in, one call out."""

from __future__ import annotations

from typing import Annotated

import typer

from raydeblend.cli.options import (
    DEBLENDER_HELP,
    OptionsFile,
    Overwrite,
    Seed,
    Weights,
    completed,
    path_argument,
    path_option,
)
from raydeblend.config import DEBLENDERS
from raydeblend.errors import ConfigError
from raydeblend.wording import amount, fitted

PROTOCOLS = (
    "wang2022", "reiman2019", "nemani2023", "hemmati2022", "madness", "survey", "singles", "shear",
    "hsc-blends", "hst-pair", "gan",
)  # fmt: skip
"""Repeated here, since importing the table in `raydeblend.evaluate.protocol` takes a second."""
Deblenders = Annotated[
    list[str] | None,
    typer.Option(
        "--deblender",
        help=f"{DEBLENDER_HELP} By default joint.",
        autocompletion=completed(DEBLENDERS),
    ),
]


def evaluate_command(
    protocol: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL",
            help=f"One of {', '.join(PROTOCOLS)}.",
            autocompletion=completed(PROTOCOLS),
        ),
    ],
    out: Annotated[str, path_option(help="Directory for metrics.json, tables and figures.")],
    deblender: Deblenders = None,
    weights: Weights = None,
    data: Annotated[
        str | None,
        path_option(help="Test set (.npz) instead of a drawn one; a folder for the others."),
    ] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Blends of each number of galaxies.")] = None,
    catalog: Annotated[
        str | None,
        path_option(help="nemani2023: COSMOS fits, madness, survey: CatSim, to draw from."),
    ] = None,
    bands: Annotated[
        int | None, typer.Option(help="hemmati2022: 1 (the default) or 7 of the network.")
    ] = None,
    survey: Annotated[
        str | None,
        typer.Option(help="survey, singles, shear: HSC (the default), LSST, or FILE.yaml."),
    ] = None,
    population: Annotated[
        str | None,
        typer.Option(help="survey: cosmos (the default), parametric or catsim (with --catalog)."),
    ] = None,
    stamps: Annotated[
        str | None, path_option(help="survey, singles, shear: folder of HST galaxies to add.")
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    config: OptionsFile = None,
) -> None:
    """Score deblenders by a paper's protocol, next to sep and the paper's numbers.

    An option that the protocol does not use is refused.
    """
    from raydeblend.evaluate.common.request import Request
    from raydeblend.evaluate.protocol import run_evaluation

    request = Request(
        protocol=protocol,
        deblenders=tuple(deblender) if deblender else None,
        data=data,
        n=n,
        out=out,
        seed=seed,
        catalog=catalog,
        bands=bands,
        survey=survey,
        population=population,
        stamps=stamps,
        weights=weights,
    )
    evaluation = run_evaluation(request, overwrite)
    print(fitted(evaluation.tables))
    print("\n".join(evaluation.paths))


def report_command(
    results: Annotated[
        list[str],
        path_argument(metavar="DIR", help="Output of `evaluate`, or of `catalog`."),
    ],
    out: Annotated[str, path_option(help="HTML file to write, local or s3://.")] = "report.html",
    blends: Annotated[
        int, typer.Option(min=0, help="For a catalog: how many of the worst blends to draw.")
    ] = 10,
) -> None:
    """Summarize results, or a catalog run, in one self-contained HTML page.

    For results: tables, figures and provenance.  For a run: counts, maps, completeness, colors,
    stars' sizes, failures, the worst blends and the cost.
    """
    from raydeblend.draw.report.page import is_survey, write_survey_report
    from raydeblend.evaluate.report import write_report

    if not any(is_survey(root) for root in results):
        size = write_report(results, out)
        print(f"{amount(len(results), 'result')}, {size / 1e6:.1f} MB: {out}")
        return
    if len(results) > 1:
        raise ConfigError("a page is about one catalog or about results; name one of the catalogs")
    size = write_survey_report(results[0], out, blends)
    print(f"the run in {results[0]}, {size / 1e6:.1f} MB: {out}")


def demo_command(
    out: Annotated[
        str, path_argument(metavar="OUT", help="Directory for tiles, catalog and figure.")
    ] = "demo",
) -> None:
    """Simulate a small HSC-like survey, catalog it, and compare with the truth."""
    from raydeblend.demo import run_demo

    run_demo(out)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("evaluate")(evaluate_command)
    app.command("report")(report_command)
    app.command("demo")(demo_command)
