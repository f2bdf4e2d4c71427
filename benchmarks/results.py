"""Result tables of the pages: ``python -m benchmarks.results [NAME ...] [--check | --stored]``.

Each run of `RUNS` is a command of this repository.  Its metrics, tables and provenance are stored
in ``docs/results/NAME.json``, and the sections of the README and of ``docs/results.md`` between
``<!-- results:NAME/TITLE -->`` and ``<!-- /results -->`` are written from there; without ``/TITLE``
all tables of the run are meant.
So are the scores in the cards of the shipped weights (`benchmarks.cards`).

By default the runs are made afresh, those whose data or weights are missing are skipped with a
line.  ``--stored`` only rewrites pages and cards from what is stored; ``--check`` changes nothing
and ends with 1 where they say anything else than what is stored.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cards import outdated_cards, write_cards
from raydeblend.evaluate.common.provenance import NAME, describe_run
from raydeblend.evaluate.common.tables import NAME as TABLES
from raydeblend.evaluate.common.tables import from_plain, markdown, name_tables
from raydeblend.evaluate.report import write_report
from raydeblend.networks.weights import shipped_weights
from raydeblend.shipped import SHIPPED

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
STORED = ROOT / "docs" / "results"
WEIGHTS = SHIPPED
WORK = ROOT / "runs" / "results"
SHARED = "../shared/data"
MARKER = re.compile(
    r"(<!-- results:([\w-]+)(?:/([^\n]+?))? -->\n)(.*?)(<!-- /results -->)", re.DOTALL
)


@dataclass(frozen=True)
class Run:
    """One command whose tables the documentation shows.

    Attributes
    ----------
    name
        In the markers of a page and of the stored file.
    command
        Words after the interpreter's folder: ``raydeblend evaluate ...`` (an ``--out`` is added)
        or ``python -m benchmarks...`` (a ``--json`` is added, the file that gets its tables).
    data
        Path that must exist.
    weights
        Names of shipped weights that must exist.
    """

    name: str
    command: str
    data: str = ""
    weights: tuple[str, ...] = ()

    @property
    def evaluates(self) -> bool:
        """Whether the command writes a results directory."""
        return self.command.startswith("raydeblend evaluate")


VALID = f"{SHARED}/protocols/wang2022_valid.npz"
BLENDS, ZOO = f"{SHARED}/hsc/blends_cosmos", f"{SHARED}/galaxy_zoo"
HST, PAIR = f"{SHARED}/hst", f"{SHARED}/hsc/hst_pairs"
CATSIM = f"{SHARED}/catalogs/catsim_onedegsq.fits"
COSMOS = f"{SHARED}/catalogs/cosmos_sersic_f814w_23.5.fits"
NETWORKS = "--deblender rdn --deblender branched --deblender vae --deblender srgan"

RUNS = (
    Run(
        "wang2022",
        f"raydeblend evaluate wang2022 --data {VALID} --deblender joint --deblender joint-true "
        f"{NETWORKS}",
        VALID,
    ),
    Run(
        "wang2022-fresh",
        # Galaxies drawn anew, which no training and no choice of a constant has seen.
        "raydeblend evaluate wang2022 --n 800 --seed 31 --deblender joint --deblender joint-true "
        "--deblender rdn --deblender branched --deblender vae",
    ),
    Run(
        "rdn-joint",
        f"raydeblend evaluate wang2022 --data {VALID} --deblender rdn-joint",
        VALID,
        ("rdn-joint",),
    ),
    Run(
        "rdn-multiband",
        f"raydeblend evaluate wang2022 --data {VALID} --deblender rdn --weights rdn-multiband",
        VALID,
        ("rdn-multiband",),
    ),
    Run(
        "hsc-blends-multiband",
        f"raydeblend evaluate hsc-blends --data {BLENDS} --deblender rdn --weights rdn-multiband",
        BLENDS,
        ("rdn-multiband",),
    ),
    Run(
        "reiman2019",
        f"raydeblend evaluate reiman2019 --data {ZOO} --deblender branched-zoo",
        ZOO,
        ("branched-zoo",),
    ),
    Run(
        "nemani2023",
        f"raydeblend evaluate nemani2023 --data {HST} --catalog {COSMOS} --deblender vae",
        COSMOS,
        ("vae-deblend-euclid",),
    ),
    Run(
        "hemmati2022",
        f"raydeblend evaluate hemmati2022 --data {HST} --deblender srgan --n 1000",
        HST,
    ),
    Run(
        "hemmati2022-multiband",
        f"raydeblend evaluate hemmati2022 --data {HST} --bands 7 --deblender srgan-multiband "
        "--n 1000",
        HST,
        ("srgan-multiband",),
    ),
    Run(
        "srflow",
        # Sixteen samples an image take their time.
        f"raydeblend evaluate hemmati2022 --data {HST} --deblender srflow --n 100",
        HST,
        ("srflow",),
    ),
    Run(
        "madness",
        # The test set names the galaxies that no training has seen.
        f"raydeblend evaluate madness --catalog {CATSIM} --data {VALID} --deblender joint --n 10",
        CATSIM,
    ),
    Run("survey", "raydeblend evaluate survey --deblender joint"),
    Run("injection", "python -m benchmarks.injection runs/injection --tiles 30 --times 6"),
    Run("singles", f"raydeblend evaluate singles --deblender joint --stamps {HST}", HST),
    Run(
        "hsc-blends",
        f"raydeblend evaluate hsc-blends --data {BLENDS} --deblender joint --deblender rdn "
        "--deblender branched",
        BLENDS,
    ),
    Run("hst-pair", f"raydeblend evaluate hst-pair --data {PAIR}", PAIR),
    Run("gan", f"raydeblend evaluate gan --data {HST}", HST),
    Run(
        "speed",
        "python -m benchmarks.deblend --n 200 --deblender joint rdn branched srgan vae sep",
        VALID,
    ),
)


class ResultsError(Exception):
    """A page cannot be written or checked, or a run failed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, store and write; return the exit code."""
    options = _options(arguments)
    try:
        if options.check:
            return check()
        if not options.stored:
            make_runs(select(options.names))
        write_pages()
        write_cards(STORED, WEIGHTS)
    except ResultsError as error:
        print(f"results: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="runs, by default all")
    parser.add_argument("--check", action="store_true", help="compare with the stored results")
    parser.add_argument("--stored", action="store_true", help="rewrite the pages, run nothing")
    return parser.parse_args(arguments)


def select(names: Sequence[str]) -> tuple[Run, ...]:
    """Return the runs of the given names, all without any."""
    known = {run.name: run for run in RUNS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ResultsError(f"unknown {', '.join(unknown)}; known: {', '.join(known)}")
    return tuple(known[name] for name in names) if names else RUNS


def make_runs(runs: Sequence[Run]) -> None:
    """Run what can run here, store it, and put all evaluations into one page."""
    done = []
    for run in runs:
        reason = missing(run)
        if reason:
            print(f"skipped {run.name}: {reason}", flush=True)
            continue
        print(f"{run.name}: {run.command}", flush=True)
        store(run, make_run(run))
        done += [str(WORK / run.name)] if run.evaluates else []
    if done:
        page = WORK / "report.html"
        write_report(done, str(page))
        print(page)


def missing(run: Run) -> str:
    """Say what a run lacks here, nothing if it can run."""
    if run.data and not (ROOT / run.data).exists():
        return f"no {run.data}"
    weights = [name for name in run.weights if name not in shipped_weights()]
    return f"no weights {', '.join(weights)}" if weights else ""


def make_run(run: Run) -> dict[str, Any]:
    """Run a command and return its metrics, tables and provenance."""
    program, *words = shlex.split(run.command)
    out = WORK / run.name
    out.mkdir(parents=True, exist_ok=True)
    more = ["--out", str(out), "--overwrite"] if run.evaluates else ["--json", str(out / TABLES)]
    start = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *words, *more],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise ResultsError(f"{run.command} ended with {done.returncode}")
    tables = json.loads((out / TABLES).read_text())
    if not run.evaluates:
        provenance = describe_run(shlex.split(run.command), time.monotonic() - start)
        return {"provenance": provenance, "tables": tables, "metrics": []}
    return {
        "provenance": json.loads((out / NAME).read_text()),
        "tables": tables,
        "metrics": json.loads((out / "metrics.json").read_text()),
    }


def store(run: Run, content: Mapping[str, Any]) -> None:
    """Write ``docs/results/NAME.json``, with the command as a reader types it."""
    # The folder of this machine is nobody else's.
    provenance = content["provenance"] | {"command": run.command}
    STORED.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**content, "provenance": provenance}, indent=1, ensure_ascii=False)
    (STORED / f"{run.name}.json").write_text(text + "\n")


def render(page: str) -> str:
    """Return a page with its marked sections written from the stored results."""
    return MARKER.sub(_section, page)


def _section(match: re.Match[str]) -> str:
    start, name, title, _, end = match.groups()
    path = STORED / f"{name}.json"
    if not path.exists():
        raise ResultsError(f"a page shows {name}, but there is no {path.relative_to(ROOT)}")
    content = json.loads(path.read_text())
    named = name_tables(from_plain(content["tables"]))
    tables = [table for own, table in named if table.header and title in (None, own)]
    if not tables:
        raise ResultsError(f"the results of {name} have no table {title!r}")
    blocks = [_origin(content["provenance"])]
    for table in tables:
        blocks += [f"*{table.title}*"] if table.title and title is None else []
        blocks += [markdown(table.header, table.rows), *table.after]
    return start + "\n\n".join(blocks) + f"\n{end}"


def _origin(provenance: Mapping[str, Any]) -> str:
    """Return where the numbers come from, as one line."""
    day = str(provenance["date"]).split(" ")[0]
    return (
        f"`{provenance['command']}`: {day}, commit {provenance['commit']}, "
        f"{provenance['hardware']}, {float(provenance['seconds']):.0f} s"
    )


def write_pages() -> None:
    """Rewrite the marked sections of the README and of the page of results."""
    for page in PAGES:
        page.write_text(render(page.read_text()))


def check() -> int:
    """Tell whether the pages and the cards say what is stored."""
    texts = {page.name: page.read_text() for page in PAGES}
    wrong = [name for name, text in texts.items() if render(text) != text]
    wrong += outdated_cards(STORED, WEIGHTS)
    if wrong:
        print(
            f"{', '.join(wrong)} do not say what docs/results does: `make results`", file=sys.stderr
        )
        return 1
    sections = sum(len(MARKER.findall(text)) for text in texts.values())
    print(f"{sections} sections of {', '.join(texts)} and the cards say what is stored")
    return 0


if __name__ == "__main__":
    sys.exit(main())
