"""PSNR and SSIM of Reiman & Göhre (2019) by every reading that fits their text.

Section 3 has MAX as "the maximum pixel intensity of the truth image", constants c1 = 0.01 and
c2 = 0.03 that are not squared, windows "of user-defined width", and no data range; section 2.3 has
true images in [-1, 1].  The first reading of either metric is that of the other tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common.metrics import psnr
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.common.ssim import LocalMoments, local_moments
from raydeblend.evaluate.common.tables import Table, number
from raydeblend.evaluate.wang2022.scores import Scores
from raydeblend.tile import FloatArray

Floats = NDArray[np.float64]

READINGS = (
    ("psnr", "[0, 1], MAX 1"),
    ("psnr", "[-1, 1], MAX 1"),
    ("psnr", "MAX of each true picture"),
    ("ssim", "[0, 1], range 1, windows of 7"),
    ("ssim", "[0, 1], range 1, Gaussian windows"),
    ("ssim", "[0, 1], range 2, windows of 7"),
    ("ssim", "[-1, 1], range 2, windows of 7"),
    ("ssim", "[-1, 1], range 2, Gaussian windows"),
    ("ssim", "[0, 1], c1 = 0.01, c2 = 0.03, windows of 7"),
    ("ssim", "[-1, 1], c1 = 0.01, c2 = 0.03, windows of 7"),
)
"""Metric and reading; range 2 is what scikit-image took of floats in 2018."""
COMPARED = ("mean", "median", "max", "min")
SPEC = {"psnr": ".2f", "ssim": ".3f"}


def read_metrics(models: FloatArray, truth: FloatArray) -> Floats:
    """Return every reading ``(n, 2, readings)`` of pictures ``(n, 2, bands, y, x)`` in [0, 1]."""
    pairs = [list(zip(*both, strict=True)) for both in zip(models, truth, strict=True)]
    return np.array([[[*_psnr(*pair), *_ssim(*pair)] for pair in row] for row in pairs])


def _psnr(model: FloatArray, truth: FloatArray) -> Iterator[float]:
    for unit in (1.0, 0.5, float(truth.max())):
        yield psnr(model, truth, unit) if unit > 0 else float("nan")


def _ssim(model: FloatArray, truth: FloatArray) -> Iterator[float]:
    uniform, gaussian = local_moments(model, truth), local_moments(model, truth, gaussian=True)
    cases = ((uniform, 1), (gaussian, 1), (uniform, 2), (uniform.signed(), 2))
    for moments, data_range in (*cases, (gaussian.signed(), 2)):
        yield _with_range(moments, data_range)
    for moments in (uniform, uniform.signed()):
        yield moments.ssim(0.01, 0.03)


def _with_range(moments: LocalMoments, data_range: int) -> float:
    return moments.ssim((0.01 * data_range) ** 2, (0.03 * data_range) ** 2)


def reading_rows(scores: Sequence[Scores], paper: Mapping[str, Sequence[float]]) -> list[Row]:
    """Return `COMPARED` of every reading over both galaxies, and the paper's, a row for each.

    `paper` has those of each metric, in that order first.
    """
    return [
        {"deblender": score.deblender, "metric": metric, "reading": reading}
        | _statistics(values)
        | {f"paper_{name}": value for name, value in zip(COMPARED, paper[metric], strict=False)}
        for score in scores
        for (metric, reading), values in zip(
            READINGS, score.readings.reshape(-1, len(READINGS)).T, strict=True
        )
    ]


def _statistics(values: Floats) -> Row:
    # A picture without light has no MAX of its own.
    known = values[~np.isnan(values)]
    results = np.mean(known), np.median(known), known.max(), known.min()
    return {name: float(v) for name, v in zip(COMPARED, results, strict=True)}


def reading_table(rows: Sequence[Row], paper: str) -> Table:
    """Return the readings with the paper's line after each metric, and where ours is above."""
    lines = []
    for metric in SPEC:
        mine = [row for row in rows if row["metric"] == metric]
        lines += [_line(row) for row in mine]
        values = [number(float(mine[0][f"paper_{name}"]), SPEC[metric]) for name in COMPARED]
        lines.append([metric.upper(), "not said", paper, *values, "–"])
    header = ["metric", "reading", "deblender", *COMPARED, "above the paper in"]
    return Table(header, lines, "Readings of the metrics")


def _line(row: Row) -> list[str]:
    spec = SPEC[str(row["metric"])]
    values = [number(float(row[name]), spec) for name in COMPARED]
    above = [name for name in COMPARED if float(row[name]) > float(row[f"paper_{name}"])]
    names = [str(row[name]) for name in ("reading", "deblender")]
    return [str(row["metric"]).upper(), *names, *values, ", ".join(above) or "nothing"]
