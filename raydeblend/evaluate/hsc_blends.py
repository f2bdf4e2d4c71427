"""Real HSC blends, of which nobody knows the truth: what is left when the models are taken off.

Scored inside the parent's footprint: weighted residual χ² per pixel and band, the models' flux
over the image's, and how many of the pipeline's peaks have a model.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend import access, storage
from raydeblend.deblend.masks import mask_for
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.baselines import SCARLET, find_scarlet, load_named
from raydeblend.evaluate.common.bootstrap import SEED, Statistic, interval
from raydeblend.evaluate.common.figures import DPI, show, to_png
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.common.tables import Table
from raydeblend.tile import BoolArray, Deblended, Deblender, FloatArray

PROTOCOL = "hsc-blends"
PIXEL_SCALE = 0.168
"""Arcsec; that of HSC."""
BANDS = ("g", "r", "i", "z", "y")
MATCH_RADIUS = 3.0
"""Pixels between a peak and the model that stands for it."""
MIN_SIZE = 32
"""Smaller stamps are padded with unusable pixels: deblenders promise 24 pixels and more."""

DESIGN_ROW = (
    "scarlet, pipeline's peaks (DESIGN)",
    *("24", "0.956", "9.8", "1.008", "–", "given", "–", "0.67"),
)
"""scarlet 1.0 on 24 of these blends; measured for this project's design, not by this code."""
NOTE = (
    "χ² is per pixel and band in the footprint; found: the pipeline's peaks with a model within "
    f"{MATCH_RADIUS:g} pixels. Only scarlet is given the peaks. `sep` takes its models from the "
    "noisy image, so that its χ² says nothing."
)

Row = dict[str, str | int | float]
_KEYS = {"images", "weights", "peaks", "psfs"}


@dataclass(frozen=True)
class HscBlend:
    """One parent.

    Attributes
    ----------
    image, variance
        ``(bands, y, x)`` in the file's unit; the variance is 1 where unusable.
    unusable
        ``(bands, y, x)``: outside the footprint.
    peaks
        ``(k, 2)`` the pipeline's, (x, y).
    psf
        ``(bands, py, px)``.
    """

    name: str
    image: FloatArray
    variance: FloatArray
    unusable: BoolArray
    peaks: FloatArray
    psf: FloatArray


def read_hsc_blends(root: str, n: int | None = None) -> list[HscBlend]:
    """Read the first `n` npz files of a folder: ``images``, ``weights``, ``peaks``, ``psfs``.

    Raises
    ------
    ConfigError
        If there are none, or one lacks an array.
    """
    paths = sorted(path for path in storage.list_files(root) if path.endswith(".npz"))
    if not paths:
        raise ConfigError(f"there are no .npz files in {root}")
    return [_read(path) for path in paths[:n]]


def _read(path: str) -> HscBlend:
    with np.load(io.BytesIO(storage.read_bytes(path))) as arrays:
        if not set(arrays) >= _KEYS:
            raise ConfigError(f"{path} lacks {', '.join(sorted(_KEYS - set(arrays)))}")
        image, weight, peaks, psf = (
            arrays[name].astype(np.float32) for name in ("images", "weights", "peaks", "psfs")
        )
    pad = [(0, 0), *((0, max(0, MIN_SIZE - side)) for side in image.shape[1:])]
    image, weight = np.pad(image, pad), np.pad(weight, pad)
    good: BoolArray = np.isfinite(weight) & (weight > 0)
    variance = 1 / np.where(good, weight, 1)
    name = path.rsplit("/", 1)[-1].removesuffix(".npz")
    return HscBlend(name, image, variance.astype(np.float32), ~good, peaks, psf)


@dataclass(frozen=True)
class BlendScore:
    """One row of one deblender and blend, and what a figure needs.

    Attributes
    ----------
    total
        ``(bands, y, x)`` the sum of the models.
    xy
        ``(k, 2)`` their positions.
    """

    row: Row
    blend: HscBlend
    total: FloatArray
    xy: FloatArray


def load_deblenders(names: Sequence[str], weights: Mapping[str, str]) -> dict[str, Deblender]:
    """Load deblenders by name, some with weights of their own, and scarlet wherever it imports.

    Raises
    ------
    ConfigError
        If there is no deblender of a name, or it cannot be loaded.
    """
    others = [SCARLET] if find_scarlet() else []
    return {name: load_named(name, weights.get(name)) for name in dict.fromkeys([*names, *others])}


def evaluate_hsc_blends(
    deblenders: Mapping[str, Deblender], blends: Sequence[HscBlend]
) -> list[BlendScore]:
    """Return one score per deblender and blend."""
    return [
        score_blend(name, deblender, blend)
        for name, deblender in deblenders.items()
        for blend in blends
    ]


def score_blend(name: str, deblender: Deblender, blend: HscBlend) -> BlendScore:
    """Deblend one parent and look at what is left; only scarlet is given the peaks."""
    given: dict[str, Any] = {"xy": [blend.peaks]} if deblender.name == SCARLET else {}
    start = time.perf_counter()
    result = deblender(
        blend.image[None],
        variance=blend.variance[None],
        mask=mask_for(deblender, blend.unusable[np.newaxis]),
        psf=blend.psf,
        bands=BANDS[: len(blend.image)],
        pixel_scale=PIXEL_SCALE,
        **given,
    )
    seconds = time.perf_counter() - start
    used = ~blend.unusable
    total = result.models[0].sum(0)
    chi2 = ((blend.image - total) ** 2 / blend.variance)[used]
    row: Row = {
        "protocol": PROTOCOL,
        "deblender": name,
        "blend": blend.name,
        "chi2": float(chi2.mean(dtype=np.float64)),
        "flux_ratio": float(total[used].sum() / blend.image[used].sum()),
        "n_peaks": len(blend.peaks),
        "n_sources": int(result.n_sources[0]),
        "n_found": int(_found(blend, result).sum()),
        "seconds": seconds,
    }
    return BlendScore(row, blend, total, result.xy[0, : result.n_sources[0]])


def _found(blend: HscBlend, result: Deblended) -> NDArray[np.bool_]:
    """Tell which of the pipeline's peaks have a model near."""
    xy = result.xy[0, : result.n_sources[0]]
    if not len(xy):
        return np.zeros(len(blend.peaks), dtype=bool)
    distance = np.linalg.norm(blend.peaks[:, None] - xy, axis=2)
    return np.asarray(distance.min(axis=1) < MATCH_RADIUS)


def summary_table(rows: Sequence[Row]) -> Table:
    """Return one line per deblender with 95 % intervals, and scarlet's for reference.

    The intervals are those of resampled blends.
    """
    header = ["deblender", "blends", "χ² median", "90th", "flux ratio", "peaks", "found", "sources"]
    names = dict.fromkeys(str(row["deblender"]) for row in rows)
    lines = [_line(name, [row for row in rows if row["deblender"] == name]) for name in names]
    missing = "" if SCARLET in names else " scarlet does not import here and was not run."
    return Table(
        [*header, "s/blend"],
        [*lines, DESIGN_ROW],
        title="Real HSC blends",
        after=(NOTE + missing,),
    )


def _line(name: str, rows: Sequence[Row]) -> list[str]:
    def column(key: str) -> NDArray[np.float64]:
        return np.array([row[key] for row in rows], dtype=np.float64)

    found = np.stack([column("n_found"), column("n_peaks")], axis=-1)
    return [
        name,
        str(len(rows)),
        _with_limits(column("chi2"), np.median, ".3f"),
        _with_limits(column("chi2"), _ninetieth, ".1f"),
        _with_limits(column("flux_ratio"), np.median, ".3f"),
        f"{column('n_peaks').sum():.0f}",
        _with_limits(found, _summed_ratio, ".1%"),
        f"{column('n_sources').sum():.0f}",
        f"{column('seconds').mean():.2f}",
    ]


def _ninetieth(values: NDArray[Any], /, *, axis: int) -> NDArray[Any]:
    return np.asarray(np.percentile(values, 90, axis=axis))


def _summed_ratio(pairs: NDArray[Any], /, *, axis: int) -> NDArray[Any]:
    """Ratio of the sums of both columns of ``(..., n, 2)``."""
    sums = pairs.sum(axis=axis)
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))


def _with_limits(values: NDArray[np.float64], statistic: Statistic, spec: str) -> str:
    value = float(statistic(values, axis=0))
    low, high = interval(values, statistic, np.random.default_rng(SEED))
    if not np.isfinite(low):
        return format(value, spec)
    return f"{format(value, spec)} ({format(low, spec)} to {format(high, spec)})"


def residual_figure(scores: Sequence[BlendScore]) -> bytes:
    """Draw each deblender's best, median and worst blend by χ²: image, model and residual.

    Crosses are the pipeline's peaks, circles the models.
    """
    names = list(dict.fromkeys(str(score.row["deblender"]) for score in scores))
    figure = Figure(figsize=(4.6 * len(names), 5.2), dpi=DPI, layout="constrained")
    parts: Any = figure.subfigures(1, len(names), squeeze=False)
    for part, name in zip(parts[0], names, strict=True):
        own = sorted(
            (score for score in scores if score.row["deblender"] == name),
            key=lambda score: float(score.row["chi2"]),
        )
        part.suptitle(f"{name} (g r i)", fontsize=9)
        grid = part.subplots(3, 3, squeeze=False)
        for row, word, score in zip(
            grid, ("best", "median", "worst"), (own[0], own[len(own) // 2], own[-1]), strict=True
        ):
            _residual_row(list(row), word, score)
    return to_png(
        figure,
        "Real HSC blends: the best, median and worst of each deblender by residual χ² per pixel; "
        "image with the pipeline's peaks (crosses) and the models' places (circles), model, "
        "residual. Outside the footprint pixels belong to others.",
    )


def _residual_row(row: list[Axes], word: str, score: BlendScore) -> None:
    blend, used = score.blend, ~score.blend.unusable
    image, total = np.where(used, blend.image, 0)[:3], np.where(used, score.total, 0)[:3]
    sigma = float(np.sqrt(np.median(blend.variance[:3][used[:3]])))
    chi2 = float(score.row["chi2"])
    show(row[0], image, f"{word}: …{blend.name[-6:]}", sigma)
    show(row[1], total, "model", sigma)
    show(row[2], image - total, f"residual, χ² {chi2:.2f}", sigma)
    row[0].plot(*blend.peaks.T, "x", color="w", ms=4, mew=0.6)
    row[0].plot(*score.xy.T, "o", mfc="none", mec="w", ms=6, mew=0.6)
    row[0].set(xlim=(-0.5, image.shape[2] - 0.5), ylim=(-0.5, image.shape[1] - 0.5))


def run(request: Request) -> Report:
    """Read the blends, deblend, and report."""
    loaded = load_deblenders(request.compared, request.own_weights)
    blends = read_hsc_blends(request.needed_data("a folder of blends"), request.n)
    access.check_writable(request.out)
    scores = evaluate_hsc_blends(loaded, blends)
    rows = [score.row for score in scores]
    return Report(rows, [summary_table(rows)], {"residuals.png": residual_figure(scores)})
