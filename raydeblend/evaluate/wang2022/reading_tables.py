"""Tables of the PSNR by every reading of the paper, see `raydeblend.evaluate.wang2022.readings`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.common.tables import Table, number
from raydeblend.evaluate.wang2022.paper import PAPER, PAPER_SCORES
from raydeblend.evaluate.wang2022.readings import PSNR_READINGS
from raydeblend.evaluate.wang2022.scores import Scores

EXPLAINED = (
    "The paper's normalization is not fully stated. Divided are model and truth by the maximum of "
    "the noisy blend, of the true galaxy alone, of the image that the galaxy is peeled from, or of "
    "each band of the blend; [-1, 1] doubles the errors, MAX stays 1; 8 bits: the truth rounded "
    "to 255 gray levels of the blend's maximum. That the fainter galaxy has the higher PSNR, as "
    "the paper says of its own, tells against a maximum of each galaxy's own."
)


def reading_rows(scores: Sequence[Scores]) -> list[Row]:
    """Return mean and median of every reading next to the paper's, a row for each galaxy."""
    return [_row(*case) for case in _cases(scores)]


def _cases(scores: Sequence[Scores]) -> Iterator[tuple[Scores, int, str, NDArray[np.float64]]]:
    for score in scores:
        for galaxy in range(score.n_galaxies):
            for name, values in zip(PSNR_READINGS, score.readings[:, galaxy].T, strict=True):
                yield score, galaxy + 1, name, values


def _row(score: Scores, galaxy: int, name: str, values: NDArray[np.float64]) -> Row:
    mean, median, *_ = PAPER_SCORES[score.n_galaxies, galaxy]
    return {
        "deblender": score.deblender,
        "n_galaxies": score.n_galaxies,
        "galaxy": galaxy,
        "reading": name,
        "psnr_mean": float(np.mean(values)),
        "psnr_median": float(np.median(values)),
        "paper_mean": mean,
        "paper_median": median,
    }


def reading_tables(rows: Sequence[Row]) -> list[Table]:
    """Return PSNR by reading, mean and median, and in how many of them it is above the paper."""
    title, names = "PSNR readings", list(PSNR_READINGS)
    galaxies = sorted({(int(row["n_galaxies"]), int(row["galaxy"])) for row in rows})
    lines = [line for case in galaxies for line in _lines(rows, *case)]
    deblenders = dict.fromkeys(str(row["deblender"]) for row in rows)
    above = [[name, *(_above(rows, name, reading) for reading in names)] for name in deblenders]
    return [
        Table(["galaxy", "deblender", *names], lines, title, before=[EXPLAINED]),
        Table(
            ["deblender", *names],
            above,
            title,
            before=[f"Of the galaxies' means and medians, above those of {PAPER}:"],
        ),
    ]


def _lines(rows: Sequence[Row], k: int, galaxy: int) -> Iterator[list[str]]:
    mine = [row for row in rows if (row["n_galaxies"], row["galaxy"]) == (k, galaxy)]
    for name in dict.fromkeys(str(row["deblender"]) for row in mine):
        cells = [_pair(row, "psnr") for row in mine if row["deblender"] == name]
        yield [f"{galaxy} of {k}", name, *cells]
    yield [f"{galaxy} of {k}", PAPER, *[_pair(mine[0], "paper")] * len(PSNR_READINGS)]


def _pair(row: Row, name: str) -> str:
    return " / ".join(number(float(row[f"{name}_{which}"]), ".2f") for which in ("mean", "median"))


def _above(rows: Sequence[Row], deblender: str, reading: str) -> str:
    mine = [row for row in rows if (row["deblender"], row["reading"]) == (deblender, reading)]
    counts = [
        sum(float(row[f"psnr_{which}"]) > float(row[f"paper_{which}"]) for row in mine)
        for which in ("mean", "median")
    ]
    return f"{counts[0]} and {counts[1]} of {len(mine)}"
