"""`raydeblend evaluate PROTOCOL`: a test set, deblenders, and what comes out on disk."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raydeblend import storage
from raydeblend.deblend import load_deblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common import provenance, tables
from raydeblend.evaluate.common.baselines import SCARLET, find_scarlet, load_named
from raydeblend.evaluate.common.blends import read_blends, to_blend_set
from raydeblend.evaluate.common.tables import Table
from raydeblend.evaluate.wang2022.report import report_wang2022
from raydeblend.simulate.protocols import wang2022_blends
from raydeblend.tile import Deblender

LOGGER = logging.getLogger(__name__)

BASELINE = "sep"
ZOO = "branched-zoo"
"""The one deblender of pictures; only for the protocol reiman2019."""
DEFAULT_N = {
    "wang2022": 1000,
    "nemani2023": 500,
    "reiman2019": 1000,
    "madness": 30,
    "survey": 4,
    "gan": 200,
}
"""Blends drawn without a file, per number of galaxies; fields; tiles."""
Row = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Evaluation:
    """The rows of ``metrics.json``, the tables as Markdown, and the files written."""

    rows: list[Row]
    tables: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, as the command line says it; see `run_evaluation`."""

    protocol: str
    deblenders: tuple[str, ...]
    data: str | None
    n: int | None
    out: str
    seed: int = 0
    catalog: str | None = None
    bands: int = 1

    @property
    def size(self) -> int:
        """How many blends, fields or tiles to draw."""
        return self.n or DEFAULT_N[self.protocol]

    @property
    def compared(self) -> tuple[str, ...]:
        """The deblenders, with sep among them."""
        return tuple(dict.fromkeys([*self.deblenders, BASELINE]))

    def needed_data(self, what: str) -> str:
        """Return `data` of a protocol that draws nothing itself.

        Raises
        ------
        ConfigError
            If there is none.
        """
        if self.data is None:
            raise ConfigError(f"this protocol needs {what}; name it with --data")
        return self.data

    def command(self) -> list[str]:
        """Return the words of the command that runs this evaluation."""
        options = {
            "--data": self.data,
            "--n": self.n,
            "--catalog": self.catalog,
            "--seed": self.seed or None,
            "--bands": self.bands if self.bands != 1 else None,
            "--out": self.out,
        }
        return [
            *("raydeblend", "evaluate", self.protocol),
            *(word for name in self.deblenders for word in ("--deblender", name)),
            *(str(w) for pair in options.items() if pair[1] is not None for w in pair),
        ]


@dataclass(frozen=True)
class _Report:
    rows: Sequence[Row]
    tables: Sequence[Table]
    figures: Mapping[str, bytes]


def run_evaluation(
    protocol: str,
    deblenders: Sequence[str],
    data: str | None,
    n: int | None,
    out: str,
    seed: int = 0,
    catalog: str | None = None,
    bands: int = 1,
) -> Evaluation:
    """Score deblenders, with sep always among them, and write metrics, tables and figures.

    ``wang2022``, ``madness`` and ``hsc-blends`` run scarlet too, wherever it imports.

    Parameters
    ----------
    protocol
        One of `PROTOCOLS`.
    deblenders
        By name; for ``wang2022`` also ``joint-true``, the joint fit told the true positions.
    data
        ``wang2022``: an npz file of the fixed layout; without one, `n` blends are drawn with
        `seed`.  ``reiman2019``: a folder of Galaxy Zoo pictures.  ``nemani2023``: a folder of
        HST stamps for the realistic set, which is left out without one; ``hemmati2022``: the
        same, parametric galaxies only without one.  ``madness``: a test set
        whose galaxies are held out; only these are drawn from `catalog`.  ``survey``: a folder of
        simulated g r i tiles with their truth.  ``hsc-blends``: a folder of npz files.  ``gan``:
        a folder of HST stamps, drawn galaxies only without one.
    out
        A directory, local or on s3, for ``metrics.json``, ``tables.md``, ``tables.json`` and the
        figures.
    catalog
        ``nemani2023``: COSMOS Sérsic fits, ``madness``: a CatSim table, instead of the
        parametric galaxies.
    bands
        ``hemmati2022``: 1 or 7 of the super-resolution network.

    Raises
    ------
    ConfigError
        For an unknown protocol or deblender, a missing file, or a directory that cannot be
        written; before any work.
    """
    check_arguments(protocol, n)
    request = Request(protocol, tuple(deblenders), data, n, out, seed, catalog, bands)
    start = time.monotonic()
    report = _REPORTS[protocol](request)
    text = tables.to_markdown(report.tables)
    origin = provenance.describe_run(request.command(), time.monotonic() - start)
    files = {
        "metrics.json": (to_json(report.rows) + "\n").encode(),
        "tables.md": text.encode(),
        tables.NAME: tables.to_file(report.tables),
        provenance.NAME: provenance.to_file(origin),
        **report.figures,
    }
    return Evaluation(list(report.rows), text, _write(out, files))


def check_arguments(protocol: str, n: int | None) -> None:
    """Check what needs no file.

    Raises
    ------
    ConfigError
        For an unknown protocol or a number that is not positive.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}")
    if n is not None and n < 1:
        raise ConfigError(f"the number of blends must be at least 1, not {n}")


def load_compared(names: Sequence[str]) -> dict[str, Deblender]:
    """Load the deblenders, sep, and scarlet wherever it imports (it is told the true positions).

    Raises
    ------
    ConfigError
        For an unknown one, or scarlet where it is asked for and not installed.
    """
    others = [BASELINE, *([SCARLET] if find_scarlet() else [])]
    if SCARLET not in (*names, *others):
        LOGGER.info("scarlet does not import here and is not run")
    return {name: load_named(name) for name in dict.fromkeys([*names, *others])}


def _wang2022(request: Request) -> _Report:
    loaded = load_compared(request.deblenders)
    test_set = read_blends(request.data) if request.data is not None else None
    storage.check_writable(request.out)
    if test_set is None:
        test_set = to_blend_set(wang2022_blends(request.size, request.seed))
    report = report_wang2022(loaded, test_set, request.n, BASELINE)
    return _Report(report.rows, report.tables, report.files)


def _reiman2019(request: Request) -> _Report:
    from raydeblend.deblend.peeling.branched import ZooSeparator
    from raydeblend.evaluate import reiman2019

    data = request.needed_data("a folder of pictures")
    test = reiman2019.read_test(data, request.size, request.seed)
    separators = {
        name: reiman2019.by_branch(ZooSeparator.load())
        if name == ZOO
        else reiman2019.by_position(load_deblender(name))
        for name in request.compared
    }
    storage.check_writable(request.out)
    rows, scores = reiman2019.evaluate_reiman2019(separators, test)
    figures = reiman2019.draw_figures(separators, scores, test)
    return _Report(rows, [reiman2019.score_table(rows)], figures)


def _nemani2023(request: Request) -> _Report:
    from raydeblend.evaluate import nemani2023

    loaded = nemani2023.load_deblenders(request.compared)
    storage.check_writable(request.out)
    sets = nemani2023.draw_sets(request.size, request.seed, request.catalog, request.data)
    rows, results = nemani2023.evaluate_nemani2023(loaded, sets)
    figures = {f"residuals_{kind}.png": nemani2023.residual_figure(results, kind) for kind in sets}
    return _Report(rows, [nemani2023.residual_table(rows)], figures)


def _madness(request: Request) -> _Report:
    from raydeblend.evaluate.madness import report as madness_report
    from raydeblend.evaluate.madness import scores as madness
    from raydeblend.simulate.fields import draw_fields

    told, own = madness.load_deblenders(request.compared)
    storage.check_writable(request.out)
    fields = draw_fields(request.size, request.seed, request.catalog, request.data)
    rows, scores = madness.evaluate_madness(told, own, fields)
    notes = madness_report.origin(request.catalog, request.data)
    figures = {
        "errors.png": madness_report.residual_figure(scores),
        "field.png": madness_report.field_figure(scores, fields),
    }
    return _Report(rows, madness_report.field_tables(rows, [notes]), figures)


def _survey(request: Request) -> _Report:
    from raydeblend.evaluate.survey import figures as survey_figures
    from raydeblend.evaluate.survey import run as survey_run
    from raydeblend.evaluate.survey import tables as survey_tables

    load_compared(request.compared)  # A name that cannot be used is found before any work.
    storage.check_writable(request.out)
    rows, scores = survey_run.evaluate_survey(
        request.compared, request.size, request.seed, request.out, request.data
    )
    band = survey_run.BANDS[-1]
    figures = {
        "trends.png": survey_figures.trends_figure(rows, band),
        "residuals.png": survey_figures.residuals_figure(scores, band),
    }
    reliability = survey_figures.reliability_figure(scores)
    figures |= {} if reliability is None else {"calibration.png": reliability}
    return _Report(rows, survey_tables.survey_tables(rows, scores, band), figures)


def _hsc_blends(request: Request) -> _Report:
    from raydeblend.evaluate import hsc_blends

    loaded = hsc_blends.load_deblenders(request.compared)
    blends = hsc_blends.read_hsc_blends(request.needed_data("a folder of blends"), request.n)
    storage.check_writable(request.out)
    scores = hsc_blends.evaluate_hsc_blends(loaded, blends)
    rows = [score.row for score in scores]
    figures = {"residuals.png": hsc_blends.residual_figure(scores)}
    return _Report(rows, [hsc_blends.summary_table(rows)], figures)


def _hemmati2022(request: Request) -> _Report:
    from raydeblend.evaluate.hemmati2022.report import report_hemmati2022

    names, out, seed, bands = request.deblenders, request.out, request.seed, request.bands
    return _Report(*report_hemmati2022(names, request.data, request.n, out, seed, bands))


def _gan(request: Request) -> _Report:
    from raydeblend.evaluate import gan

    generated, trained = gan.draw_generated(request.size, request.seed)
    storage.check_writable(request.out)
    real = gan.draw_real(request.size, request.seed, trained, request.data)
    rows = gan.compare(generated, real)
    figures = {
        "distributions.png": gan.distribution_figure(generated, real, rows),
        "samples.png": gan.sample_figure(generated, real),
    }
    return _Report(rows, [gan.comparison_table(rows)], figures)


def _hst_pair(request: Request) -> _Report:
    from raydeblend.evaluate.hst_pair import evaluate_hst_pair

    data = request.needed_data("the folder of the HSC and HST pair")
    storage.check_writable(request.out)
    return _Report(*evaluate_hst_pair(data))


_REPORTS: Mapping[str, Callable[[Request], _Report]] = {
    "wang2022": _wang2022,
    "reiman2019": _reiman2019,
    "nemani2023": _nemani2023,
    "hemmati2022": _hemmati2022,
    "madness": _madness,
    "survey": _survey,
    "hsc-blends": _hsc_blends,
    "hst-pair": _hst_pair,
    "gan": _gan,
}
PROTOCOLS = tuple(_REPORTS)


def to_json(rows: Sequence[Row]) -> str:
    """Return the rows as JSON, with null for what does not exist (a bias of none found)."""
    return json.dumps(
        [{key: _finite(value) for key, value in row.items()} for row in rows], indent=1
    )


def _finite(value: str | int | float) -> str | int | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(out: str, files: dict[str, bytes]) -> tuple[str, ...]:
    paths = []
    for name, content in files.items():
        path = storage.join(out, name)
        storage.write_bytes(path, content)
        paths.append(path)
    return tuple(paths)
