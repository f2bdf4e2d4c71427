"""The protocol of Reiman & Göhre (2019), section 3: pairs of Galaxy Zoo pictures, never trained on.

Pixelwise maxima of two pictures; images are in [0, 1] and MAX = 1.  The paper scores both galaxies
of a blend as one sample; here they are given apart too, since the second one is often off the
picture: at the printed displacements of up to 50 pixels its center is outside in almost half of
the blends.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend import access
from raydeblend.deblend import load_deblender
from raydeblend.deblend.peeling.branched import ZooSeparator
from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.blends import Blends
from raydeblend.evaluate.common.bootstrap import Statistic
from raydeblend.evaluate.common.figures import DPI, PANEL, to_png
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.common.rows import Row, cell, fixed_first, flux_columns, image_columns
from raydeblend.evaluate.common.tables import Table, number
from raydeblend.evaluate.reiman2019_readings import read_metrics, reading_rows, reading_table
from raydeblend.evaluate.wang2022.scores import Scores, match_models
from raydeblend.networks.weights import one_network
from raydeblend.simulate.galaxy_zoo import BANDS, ZooImages, draw_zoo_blends, read_galaxy_zoo
from raydeblend.tile import Deblender, FloatArray

LOGGER = logging.getLogger(__name__)

PROTOCOL = "reiman2019"
PAPER = "Reiman & Göhre 2019"
DEFAULT_N = 1000
"""Blends; the paper's test set has 3200."""
ZOO = "branched-zoo"
"""The deblender of pictures; only here."""
CHUNK = 64
GALLERY = 6
"""Blends in a gallery."""
STATISTICS: Mapping[str, Statistic] = {
    "mean": np.mean,
    "median": np.median,
    "max": np.max,
    "min": np.min,
    "var": np.var,
}
EXTREMES = ("max", "min")
"""Of these the bootstrap, which never draws beyond the sample, gives no interval."""
# Table 1, mean, median, maximum, minimum, variance.  The maximum PSNR is missing in our copy of
# the paper's text; that of the SSIM is in the caption of Fig. 5.
PAPER_SCORES: Mapping[str, tuple[float, ...]] = {
    "psnr": (34.61, 34.83, float("nan"), 21.34, 4.88),
    "ssim": (0.928, 0.934, 0.982, 0.576, 0.001),
}

Separate = Callable[[Blends], tuple[FloatArray, NDArray[np.bool_]]]
"""Maps blends to models ``(n, 2, 3, y, x)``, the central galaxy first, and which were found."""


@dataclass(frozen=True)
class ZooTest:
    """A test set: `n` blends of pictures, drawn in chunks with a seed."""

    pictures: ZooImages
    n: int = DEFAULT_N
    seed: int = 0

    def chunk(self, number: int) -> Blends:
        """Return the blends from ``number * CHUNK`` on; `isolated` has the central galaxy first."""
        size = min(CHUNK, self.n - number * CHUNK)
        # One seed a chunk, so that blends do not depend on how many are drawn.
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return Blends(*draw_zoo_blends(self.pictures.images, CHUNK, seed))[:size]

    def chunks(self) -> Iterator[Blends]:
        """Yield all the blends."""
        return (self.chunk(number) for number in range(-(-self.n // CHUNK)))

    def pick(self, rows: Sequence[int]) -> Blends:
        """Return some of the blends."""
        picked = [self.chunk(row // CHUNK)[row % CHUNK : row % CHUNK + 1] for row in rows]
        return Blends(
            *(np.concatenate([getattr(blend, name) for blend in picked])
              for name in ("images", "isolated", "xy"))
        )  # fmt: skip


def read_test(root: str, n: int | None = None, seed: int = 0) -> ZooTest:
    """Read the test pictures of a Galaxy Zoo folder, one galaxy in eight by its name.

    Raises
    ------
    ConfigError
        If there are none.
    """
    return ZooTest(read_galaxy_zoo(root, "test"), n or DEFAULT_N, seed)


def by_branch(separator: Callable[[FloatArray], FloatArray]) -> Separate:
    """Use a network whose first branch is the central galaxy, as the paper does."""

    def separate(blends: Blends) -> tuple[FloatArray, NDArray[np.bool_]]:
        models = separator(blends.images)
        return models, np.ones(models.shape[:2], dtype=bool)

    return separate


def by_position(deblender: Deblender) -> Separate:
    """Use a deblender for survey images: its models are matched to the galaxies by position."""

    def separate(blends: Blends) -> tuple[FloatArray, NDArray[np.bool_]]:
        models, found = match_models(blends, deblender(blends.images, bands=BANDS))
        return np.clip(models, 0, 1), found

    return separate


def evaluate_reiman2019(
    separators: Mapping[str, Separate], test: ZooTest
) -> tuple[list[Row], list[Scores]]:
    """Score deblenders on a test set.

    Returns
    -------
    rows
        For each deblender one of both galaxies (``galaxy`` 0), as the paper's table, and one of
        each; the fixed columns and maximum, minimum and variance.
    scores
        One per deblender.
    """
    scores = [score_separator(name, separate, test) for name, separate in separators.items()]
    return [row for score in scores for row in make_rows(score)], scores


def score_separator(name: str, separate: Separate, test: ZooTest) -> Scores:
    """Separate all blends and compare with the truth; models are not kept."""
    parts, seconds = [], 0.0
    for blends in test.chunks():
        start = time.perf_counter()
        models, found = separate(blends)
        seconds += time.perf_counter() - start
        flux = np.where(found, metrics.flux(models), np.nan)
        parts.append(
            (
                *compare(models, blends.isolated),
                flux,
                metrics.flux(blends.isolated),
                read_metrics(models, blends.isolated),
            )
        )
        LOGGER.info("%s: %d of %d blends", name, sum(len(part[0]) for part in parts), test.n)
    joined = [np.concatenate(values) for values in zip(*parts, strict=True)]
    psnr, ssim, flux, flux_true, readings = joined
    quality = np.full(len(psnr), "")
    empty = np.zeros((0, 2, 3, 1, 1), dtype=np.float32)
    pace = seconds / len(psnr)
    return Scores(name, psnr, ssim, flux, flux_true, quality, empty, pace, readings=readings)


def compare(
    models: FloatArray, truth: FloatArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return PSNR and SSIM ``(n, 2)`` of ``(n, 2, bands, y, x)`` in [0, 1]."""
    pairs = [list(zip(*both, strict=True)) for both in zip(models, truth, strict=True)]
    psnr = np.array([[metrics.psnr(m, t, 1.0) for m, t in row] for row in pairs])
    ssim = np.array([[metrics.ssim(m, t, 1.0) for m, t in row] for row in pairs])
    return psnr, ssim


def make_rows(scores: Scores) -> list[Row]:
    """Return one row of metrics for both galaxies, and one for each."""
    every = slice(None)
    return [_row(scores, galaxy, part) for galaxy, part in ((0, every), (1, 0), (2, 1))]


def _row(scores: Scores, galaxy: int, part: int | slice) -> Row:
    error = scores.flux_error[:, part]
    row: Row = {
        "protocol": PROTOCOL,
        "deblender": scores.deblender,
        "n_galaxies": 2,
        "galaxy": galaxy,
        "n": error.size,
        **image_columns("psnr", scores.psnr[:, part], STATISTICS),
        **image_columns("ssim", scores.ssim[:, part], STATISTICS),
        **flux_columns(error),
        "seconds_per_blend": scores.seconds_per_blend,
    }
    extremes = {f"{metric}_{name}" for metric in PAPER_SCORES for name in EXTREMES}
    without = {f"{name}{end}" for name in extremes for end in ("_low", "_high")}
    return fixed_first({key: value for key, value in row.items() if key not in without})


def score_table(rows: Sequence[Row]) -> Table:
    """Return the paper's Table 1, ours above the paper's line."""
    names = [f"{name}_{statistic}" for name in PAPER_SCORES for statistic in STATISTICS]
    header = ["galaxy", "deblender", "n", *(name.replace("_", " ") for name in names), "found"]
    labels = {0: "both", 1: "central", 2: "other"}
    lines = [
        [
            labels[int(row["galaxy"])],
            str(row["deblender"]),
            str(row["n"]),
            *(cell(row, name, _spec(name)) for name in names),
            cell(row, "found", ".3f"),
        ]
        for row in sorted(rows, key=lambda row: int(row["galaxy"]))
    ]
    printed = [value for values in PAPER_SCORES.values() for value in values]
    cells = [number(value, _spec(name)) for name, value in zip(names, printed, strict=True)]
    return Table(header, [*lines, ["both", PAPER, "6400", *cells, "–"]])


def _spec(name: str) -> str:
    return ".2f" if name.startswith("psnr") else ".3f"


def distribution_figure(scores: Sequence[Scores], metric: str) -> bytes:
    """Draw the distribution of ``psnr`` or ``ssim`` over both galaxies (Figs. 4 and 5)."""
    figure = Figure(figsize=(5.2, 3.4), dpi=DPI)
    axes = figure.subplots()
    samples = {score.deblender: getattr(score, metric).ravel() for score in scores}
    low, high = (np.percentile(np.concatenate(list(samples.values())), q) for q in (0.2, 99.8))
    edges = np.linspace(low, high, 61)
    for name, values in samples.items():
        label = f"{name}: mean {np.mean(values):.{2 if metric == 'psnr' else 3}f}"
        axes.hist(
            values.clip(low, high), edges.tolist(), histtype="step", density=True, label=label
        )
    mean = PAPER_SCORES[metric][0]
    axes.axvline(mean, color="0.5", ls="--", lw=0.8, label=f"{PAPER}: mean {mean:g}")
    axes.set_xlabel("PSNR (dB)" if metric == "psnr" else "SSIM")
    axes.set_ylabel("density of galaxy images")
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    figure.tight_layout(pad=0.5)
    caption = (
        f"Distribution of the {metric.upper()} of both galaxies of the blends (Reiman & Göhre "
        f"2019, {'Fig. 4' if metric == 'psnr' else 'Fig. 5'}); dashed: the paper's mean."
    )
    return to_png(figure, caption)


def typical(scores: Scores) -> list[int]:
    """Return the blends whose fainter score lies just above the median of all: usual successes."""
    order = np.argsort(scores.psnr.min(axis=1), kind="stable")
    middle = len(order) // 2
    return [int(row) for row in order[middle : middle + GALLERY]]


def worst(scores: Scores) -> list[int]:
    """Return the blends with the lowest PSNR of either galaxy (Fig. 6)."""
    return [int(row) for row in np.argsort(scores.psnr.min(axis=1), kind="stable")[:GALLERY]]


def gallery_figure(separate: Separate, name: str, test: ZooTest, rows: Sequence[int]) -> bytes:
    """Draw blends as the paper does (Figs. 3 and 6): truths, blend, and deblended with PSNR."""
    blends = test.pick(rows)
    models, _ = separate(blends)
    psnr, _ = compare(models, blends.isolated)
    titles = ("central, true", "other, true", "blend", "central, deblended", "other, deblended")
    figure = Figure(figsize=(PANEL * len(titles), PANEL * len(rows) + 0.35), dpi=DPI)
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for k, line in enumerate(grid):
        panels = [*blends.isolated[k], blends.images[k], *models[k]]
        for axes, panel in zip(line, panels, strict=True):
            _show(axes, panel)
        for axes, value in zip(line[3:], psnr[k], strict=True):
            axes.text(3, 75, f"{value:.1f} dB", color="white", fontsize=6)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=7, pad=3)
    figure.suptitle(name, fontsize=9, y=0.995)
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 0.99))
    caption = f"{name}: both true pictures, their blend, and both deblended, with the PSNR."
    return to_png(figure, caption)


def _show(axes: Axes, image: FloatArray) -> None:
    # The pictures are stretched already; a JPEG's first row is at the top.
    axes.imshow(image[::-1].transpose(1, 2, 0).clip(0, 1), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def draw_figures(
    separators: Mapping[str, Separate], scores: Sequence[Scores], test: ZooTest
) -> dict[str, bytes]:
    """Return all figures as PNG files by name."""
    figures = {f"{metric}.png": distribution_figure(scores, metric) for metric in PAPER_SCORES}
    for score in scores:
        separate, name = separators[score.deblender], score.deblender
        for kind, rows in (("typical", typical(score)), ("worst", worst(score))):
            title = f"{name}: {kind} blends of {len(score.psnr)}"
            figures[f"{kind}_{name}.png"] = gallery_figure(separate, title, test, rows)
    return figures


def run(request: Request) -> Report:
    """Read the test set, separate, and report."""
    test = read_test(request.needed_data("a folder of pictures"), request.n, request.seed)
    separators = {name: _load(name, request.own_weights.get(name)) for name in request.compared}
    access.check_writable(request.out)
    rows, scores = evaluate_reiman2019(separators, test)
    readings = reading_rows(scores, PAPER_SCORES)
    files = draw_figures(separators, scores, test)
    files["readings.json"] = (json.dumps(readings, indent=1) + "\n").encode()
    return Report(rows, [score_table(rows), reading_table(readings, PAPER)], files)


def _load(name: str, weights: str | None) -> Separate:
    if name == ZOO:
        return by_branch(ZooSeparator.load(weights=one_network(weights, ZOO, "branched")))
    return by_position(load_deblender(name, weights=weights))
