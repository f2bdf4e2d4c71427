"""`raydeblend evaluate PROTOCOL`: a test set, deblenders, and what comes out on disk."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from raydeblend import storage
from raydeblend.config import check_seed
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common import provenance, tables
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.outputs import files_in, refuse_earlier

METRICS = "metrics.json"

Row = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Protocol:
    """One way to evaluate.

    Attributes
    ----------
    module
        Below `raydeblend.evaluate`; its function ``run`` makes a `Report` of a `Request`.
        Imported when it runs, since each loads what no other needs.
    takes
        Those of `Request.given` that it uses.
    draws
        Those of them that say what to draw, and nothing where ``--data`` names what is drawn.
    own_network
        Whether ``--weights`` are of a network that the protocol is about, not of a deblender.
    """

    module: str
    takes: tuple[str, ...]
    draws: tuple[str, ...] = ()
    own_network: bool = False

    def run(self, request: Request) -> Report:
        """Evaluate."""
        report: Report = import_module(f"raydeblend.evaluate.{self.module}").run(request)
        return report


PROTOCOLS: Mapping[str, Protocol] = {
    # Of a file, --n takes the first blends.
    "wang2022": Protocol(
        "wang2022.report", ("deblender", "weights", "data", "n", "seed"), ("seed",)
    ),
    "reiman2019": Protocol("reiman2019", ("deblender", "weights", "data", "n", "seed")),
    "nemani2023": Protocol("nemani2023", ("deblender", "weights", "data", "n", "catalog", "seed")),
    "hemmati2022": Protocol(
        "hemmati2022.report",
        ("deblender", "weights", "data", "n", "bands", "seed"),
        own_network=True,
    ),
    "madness": Protocol("madness.report", ("deblender", "weights", "data", "n", "catalog", "seed")),
    "survey": Protocol(
        "survey.report",
        ("deblender", "weights", "data", "n", "seed", "survey", "population", "stamps", "catalog"),
        ("n", "seed", "population", "stamps", "catalog"),
    ),
    "singles": Protocol(
        "singles.report",
        ("deblender", "weights", "data", "n", "seed", "survey", "stamps"),
        ("n", "seed", "stamps"),
    ),
    "shear": Protocol("shear.report", ("deblender", "weights", "n", "seed", "survey", "stamps")),
    "hsc-blends": Protocol("hsc_blends", ("deblender", "weights", "data", "n")),
    "hst-pair": Protocol("hst_pair", ("data", "weights"), own_network=True),
    "gan": Protocol("gan", ("data", "n", "seed", "weights"), own_network=True),
}


@dataclass(frozen=True)
class Evaluation:
    """The rows of ``metrics.json``, the tables as Markdown, and the files written."""

    rows: list[Row]
    tables: str
    paths: tuple[str, ...]


def run_evaluation(request: Request, overwrite: bool = False) -> Evaluation:
    """Score deblenders, with sep always among them, and write metrics, tables and figures.

    ``wang2022``, ``madness`` and ``hsc-blends`` run scarlet too, wherever it imports.

    Parameters
    ----------
    request
        The protocol, one of `PROTOCOLS`, and what it is asked; see below.
    overwrite
        Whether earlier results in `out` are replaced.

    Raises
    ------
    ConfigError
        For an unknown protocol or deblender, an argument that the protocol does not use, a
        missing file, or a directory that cannot be written or holds results; before any work.

    Notes
    -----
    What the fields of a request mean to the protocols:

    deblenders
        By name, joint for None; for ``wang2022`` also ``joint-true``, the joint fit given the true
        positions.  ``hst-pair`` and ``gan`` are about one network each and take none.
    data
        ``wang2022``: an npz file of the fixed layout; without one, `n` blends are drawn with
        `seed`.  ``reiman2019``: a folder of Galaxy Zoo pictures.  ``nemani2023``: a folder of
        HST stamps for the realistic set, which is left out without one; ``hemmati2022``: the
        same, parametric galaxies only without one.  ``madness``: a test set
        whose galaxies are held out; only these are drawn from `catalog`.  ``survey``: a folder of
        simulated g r i tiles with their truth; ``singles``: one of `raydeblend simulate singles`.
        ``hsc-blends``: a folder of npz files.
        ``hst-pair``: the folder of the pair.  ``gan``: a folder of HST stamps, drawn galaxies
        only without one.
    n
        Blends drawn or read of each number of galaxies; fields; tiles; ``singles``: galaxies of
        each class and magnitude; ``shear``: single galaxies, and pairs.
    out
        A directory, local or on s3, for ``metrics.json``, ``tables.md``, ``tables.json`` and the
        figures.
    catalog
        ``nemani2023``: COSMOS Sérsic fits, ``madness``: a CatSim table, instead of the
        parametric galaxies.
    bands
        ``hemmati2022``: 1 (for None) or 7 of the super-resolution network.
    survey
        ``survey``, ``singles``, ``shear``: HSC (for None), at the depth of its Wide layer, or LSST.
    population
        ``survey``: cosmos (for None), parametric or catsim, the last with `catalog`.
    stamps
        ``survey``, ``singles``, ``shear``: a folder of HST galaxies, whose test split takes part.
    weights
        Of the one deblender, or of the network that the protocol is about, in place of those
        shipped: a file, or a folder that a training left.
    """
    check_seed(request.seed)
    check_request(request)
    earlier = _earlier(request.out)
    refuse_earlier(request.out, earlier, overwrite)
    start = time.monotonic()
    report = PROTOCOLS[request.protocol].run(request)
    text = tables.to_markdown(report.tables)
    seconds = time.monotonic() - start
    origin = provenance.describe_run(request.command(), seconds, request.weights)
    files = {
        METRICS: (to_json(report.rows) + "\n").encode(),
        "tables.md": text.encode(),
        tables.NAME: tables.to_file(report.tables),
        **report.files,
    }
    files[provenance.NAME] = provenance.to_file(origin | {"files": [*files, provenance.NAME]})
    paths = _write(request.out, files)
    storage.remove_files([path for path in earlier if path not in map(storage.absolute, paths)])
    return Evaluation(list(report.rows), text, paths)


def _earlier(out: str) -> list[str]:
    """Return the files of an earlier evaluation in `out`, as its provenance names them."""
    there = files_in(out)
    if storage.join(storage.absolute(out), METRICS) not in there:
        return []
    named = {METRICS, *provenance.read_provenance(out).get("files", ())}
    return [path for path in there if path.rpartition("/")[2] in named]


def check_request(request: Request) -> None:
    """Check what needs no file.

    Raises
    ------
    ConfigError
        For an unknown protocol, an option that it would drop, or a number that is not positive.
    """
    name = request.protocol
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    for option in request.given:
        if option not in protocol.takes:
            others = ", ".join(k for k, other in PROTOCOLS.items() if option in other.takes)
            raise ConfigError(f"{name} does not take --{option}; it is for {others}")
        if option in protocol.draws and request.data is not None:
            raise ConfigError(
                f"{name} draws nothing where --data names a test set, so --{option} would "
                "change nothing; leave one of them out"
            )
    if request.weights and not protocol.own_network and len(request.deblenders or ()) != 1:
        raise ConfigError("--weights belong to one deblender; name it with --deblender")
    if request.n is not None and request.n < 1:
        raise ConfigError(f"the number of blends must be at least 1, not {request.n}")


def to_json(rows: Sequence[Row]) -> str:
    """Return the rows as JSON, with null for what does not exist (a bias of none found)."""
    return json.dumps(
        [{key: _finite(value) for key, value in row.items()} for row in rows], indent=1
    )


def _finite(value: str | int | float) -> str | int | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(out: str, files: Mapping[str, bytes]) -> tuple[str, ...]:
    paths = []
    for name, content in files.items():
        path = storage.join(out, name)
        storage.write_bytes(path, content)
        paths.append(path)
    return tuple(paths)
