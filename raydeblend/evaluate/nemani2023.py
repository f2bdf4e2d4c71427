"""The protocol of Nemani et al. (2023): flux residuals of the centered galaxy in Euclid VIS stamps.

Four test sets, analytic and realistic galaxies, alone and blended with a second one.  The paper's
number for each is the standard deviation of the normalized residual over the set (Table 1), with
no mention of cuts or of a fit, so that here nothing found is left out; the normalized median
absolute deviation is printed as well, since a few hopeless blends make the first, and both also
for the stamps whose centered galaxy outshines the others: the paper does not say which galaxy it
centers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend import access
from raydeblend.deblend import load_deblender
from raydeblend.deblend.vae.centered import CenteredVae
from raydeblend.deblend.vae.deblender import VaeDeblender
from raydeblend.detect.matching import match_positions
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.blends import Blends, BlendSet
from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.common.rows import (
    Row,
    cell,
    fixed_first,
    flux_columns,
    image_columns,
    measured,
)
from raydeblend.evaluate.common.tables import Table, number
from raydeblend.evaluate.wang2022.scores import BATCH, deblend
from raydeblend.networks.weights import one_network, shipped_weights
from raydeblend.simulate.euclid import FAINT, SURVEY, read_cosmos_sersic
from raydeblend.simulate.euclid_blends import nemani2023_blends
from raydeblend.simulate.euclid_real import load_real
from raydeblend.survey import NJY_ZERO_POINT, get_survey
from raydeblend.tile import Deblender

PAPER = "Nemani et al. 2023"
PROTOCOL = "nemani2023"
DEFAULT_N = 500
"""Stamps of each set."""
# Table 1, by kind of galaxy and number of galaxies.
PAPER_STD = {
    ("analytic", 1): 0.0897,
    ("analytic", 2): 0.0993,
    ("realistic", 1): 0.139,
    ("realistic", 2): 0.188,
}
STAGE_ONE, STAGE_TWO = "vae-euclid", "vae-deblend-euclid"
"""Names of the shipped weights of both stages for VIS."""
ISOLATED = "vae-isolated"
"""The first stage's network, which knows isolated galaxies only."""
PAPER_SEXTRACTOR = 0.12
"""By how much SExtractor underestimates fluxes (section 3, citing Boucaud et al. 2019)."""
NOTE = (
    "std is the paper's number, the standard deviation of (F_true - F) / F_true over the found; a "
    "negative bias is an underestimate. brighter: blends whose centered galaxy is the brighter "
    "one. "
    "pull: error over the stated error, 1 if that is right."
)
BINS = 8
"""Of equally many galaxies, for the running mean and median."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Residuals:
    """How one deblender did on one test set of n stamps.

    Attributes
    ----------
    stamps
        ``analytic`` or ``realistic``.
    n_galaxies
        1 or 2.
    magnitude
        ``(n,)`` true AB magnitude of the centered galaxy inside the stamp.
    error
        ``(n,)`` F / F_true - 1; NaN where the galaxy was not found.  The paper's residual, whose
        points above 0 are underestimates, is minus this.
    contrast
        ``(n,)`` light of the other galaxies over that of the centered one; 0 where it is alone.
    flux_sigma
        ``(n,)`` the model's own uncertainty of F / F_true; NaN where it states none.
    psnr, ssim
        ``(n,)`` of the centered galaxy's model; zeros where it was not found.
    seconds_per_blend
        Wall time of the deblender.
    """

    deblender: str
    stamps: str
    n_galaxies: int
    magnitude: Floats
    error: Floats
    contrast: Floats
    flux_sigma: Floats
    psnr: Floats
    ssim: Floats
    seconds_per_blend: float


def draw_sets(
    n: int, seed: int, catalog: str | None = None, hst: str | None = None, faint: float = FAINT
) -> dict[str, BlendSet]:
    """Draw the test sets by kind: ``analytic``, and ``realistic`` where HST galaxies are given.

    Raises
    ------
    ConfigError
        If `n` is not positive, or the catalog or the folder cannot be used.
    """
    fits = read_cosmos_sersic(catalog) if catalog else None
    sets = {"analytic": to_set(nemani2023_blends(n, seed, fits, faint=faint))}
    if hst is not None:
        real = load_real(hst, validation=True)
        sets["realistic"] = to_set(nemani2023_blends(n, seed + 1, real=real, faint=faint))
    return sets


def to_set(arrays: Mapping[str, NDArray[Any]]) -> BlendSet:
    """Return the arrays of `nemani2023_blends` as a set of stamps of one and of two galaxies."""
    blends = tuple(
        Blends(*(arrays[f"{name}{k}"] for name in ("blend", "isolated", "xy"))) for k in (1, 2)
    )
    bands = tuple(str(band) for band in arrays["bands"])
    return BlendSet(blends, arrays["psf"], bands, float(arrays["pixel_scale"]))


def load_deblenders(
    names: Sequence[str], weights: Mapping[str, str] | None = None
) -> dict[str, Deblender]:
    """Load deblenders for VIS stamps: ``vae`` has weights of its own, and comes in three uses.

    As a deblender that finds its galaxies; as the paper's, with the galaxy known to be in the
    middle; and, where its weights are shipped, the paper's first network on isolated galaxies.

    Raises
    ------
    ConfigError
        If there is no deblender of a name, or weights are missing.
    """
    loaded: dict[str, Deblender] = {}
    for name in dict.fromkeys(names):
        own = (weights or {}).get(name)
        vae = name == "vae"
        loaded |= _load_vae(own) if vae else {name: load_deblender(name, weights=own)}
    return loaded


def _load_vae(weights: str | None) -> dict[str, Deblender]:
    if weights is not None:
        own = VaeDeblender.load(weights=one_network(weights, "vae-deblend"))
        return {"vae": own, "vae-centered": CenteredVae(own)}
    if STAGE_TWO not in shipped_weights():
        raise ConfigError(
            f"the weights {STAGE_TWO} of the deblender vae for Euclid VIS are not shipped; "
            "evaluate another deblender, or train them (docs/research/training.md, vae-deblend)"
        )
    vae = VaeDeblender.load(weights=STAGE_TWO)
    uses: dict[str, Deblender] = {"vae": vae, "vae-centered": CenteredVae(vae)}
    if STAGE_ONE in shipped_weights():
        uses[ISOLATED] = CenteredVae(VaeDeblender.load(weights=STAGE_ONE), ISOLATED)
    return uses


def evaluate_nemani2023(
    deblenders: Mapping[str, Deblender], sets: Mapping[str, BlendSet]
) -> tuple[list[Row], list[Residuals]]:
    """Score deblenders on all test sets; rows carry the fixed columns and those of this protocol.

    `deblenders` is by the name the rows carry.
    """
    results = [
        score(name, deblender, kind, blends, data)
        for kind, data in sets.items()
        for blends in data.blends
        for name, deblender in deblenders.items()
        if name != ISOLATED or blends.n_galaxies == 1
    ]
    return [make_row(result) for result in results], results


def score(name: str, deblender: Deblender, kind: str, blends: Blends, data: BlendSet) -> Residuals:
    """Deblend all stamps in batches and compare the galaxy in the middle with the truth."""
    parts = [
        _score_batch(name, deblender, kind, blends[start : start + BATCH], data)
        for start in range(0, len(blends), BATCH)
    ]
    arrays: dict[str, Any] = {
        field: np.concatenate([getattr(part, field) for part in parts])
        for field in ("magnitude", "error", "contrast", "flux_sigma", "psnr", "ssim")
    }
    seconds = sum(part.seconds_per_blend * len(part.error) for part in parts) / len(blends)
    return replace(parts[0], seconds_per_blend=seconds, **arrays)


def _score_batch(
    name: str, deblender: Deblender, kind: str, blends: Blends, data: BlendSet
) -> Residuals:
    began = time.perf_counter()
    result = deblend(deblender, blends, data)
    seconds = (time.perf_counter() - began) / len(blends)
    middle = centered(blends)
    truth = blends.isolated[np.arange(len(blends)), middle]
    models, sigma = np.zeros_like(truth), np.full(len(blends), np.nan)
    found = np.zeros(len(blends), dtype=bool)
    stated = result.extra.get("flux_err_model")
    for i, count in enumerate(result.n_sources):
        match = match_positions(result.xy[i, :count], blends.xy[i])[middle[i]]
        found[i] = match >= 0
        if found[i]:
            models[i] = result.models[i, match]
            if stated is not None:
                sigma[i] = float(np.sqrt(np.sum(np.square(stated[i, match], dtype=np.float64))))
    flux_true = metrics.flux(truth)
    peaks = blends.images.max(axis=(1, 2, 3))
    pairs = list(zip(models, truth, peaks.tolist(), strict=True))
    return Residuals(
        deblender=name,
        stamps=kind,
        n_galaxies=blends.n_galaxies,
        magnitude=to_magnitude(flux_true),
        error=np.where(found, metrics.flux(models) / flux_true - 1, np.nan),
        contrast=metrics.flux(blends.isolated).sum(axis=1) / flux_true - 1,
        flux_sigma=sigma / flux_true,
        psnr=np.array([metrics.psnr(*pair) for pair in pairs]),
        ssim=np.array([metrics.ssim(*pair) for pair in pairs]),
        seconds_per_blend=seconds,
    )


def centered(blends: Blends) -> NDArray[np.int64]:
    """Return which galaxy of each stamp is nearest to its middle."""
    height, width = blends.images.shape[2:]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.asarray(np.linalg.norm(blends.xy - middle, axis=-1).argmin(axis=1))


def to_magnitude(flux: Floats) -> Floats:
    """AB magnitude of a flux in units of the sky noise of VIS."""
    band = get_survey(SURVEY).bands[0]
    return np.asarray(NJY_ZERO_POINT - 2.5 * np.log10(flux * band.sky_sigma))


def make_row(result: Residuals) -> Row:
    """Return one row of metrics: the fixed columns and those of the paper, with 95 % limits."""
    error = result.error
    brighter = error[result.contrast < 1]
    return fixed_first(
        {
            "protocol": PROTOCOL,
            "deblender": result.deblender,
            "stamps": result.stamps,
            "n_galaxies": result.n_galaxies,
            "galaxy": 1,
            "n": len(error),
            **image_columns("psnr", result.psnr),
            **image_columns("ssim", result.ssim),
            **flux_columns(error),
            **measured("flux_std", error, found_std),
            **measured("flux_std_brighter", brighter, found_std),
            **measured("flux_nmad_brighter", brighter, metrics.found_nmad),
            **measured("flux_pull", np.abs(error / result.flux_sigma), scaled_median),
            "seconds_per_blend": result.seconds_per_blend,
        }
    )


def found_std(error: Floats, /, *, axis: int) -> Floats:
    """Return the standard deviation of ``F / F_true - 1`` over the found (Table 1)."""
    found = np.isfinite(error)
    n = np.maximum(found.sum(axis=axis, keepdims=True), 1)
    values = np.where(found, error, 0)
    from_mean = np.where(found, error - values.sum(axis=axis, keepdims=True) / n, 0)
    variance = (from_mean**2).sum(axis=axis) / np.squeeze(n, axis=axis)
    return np.asarray(np.where(found.any(axis=axis), np.sqrt(variance), np.nan))


def scaled_median(pull: Floats, /, *, axis: int) -> Floats:
    """1.4826 times the median of |error| over its stated uncertainty; 1 if that is right."""
    return np.asarray(1.4826 * metrics.found_median(pull, axis))


_COLUMNS = {
    "flux_std": ("std", ".1%"),
    "flux_nmad": ("NMAD", ".1%"),
    "flux_bias": ("bias", "+.1%"),
    "flux_mape": ("mape", ".1%"),
    "found": ("found", ".1%"),
    "flux_pull": ("pull", ".2f"),
    "flux_std_brighter": ("std, brighter", ".1%"),
    "flux_nmad_brighter": ("NMAD, brighter", ".1%"),
}


def residual_table(rows: Sequence[Row]) -> Table:
    """Return the paper's Table 1 with our numbers; its rows follow each set."""
    header = ["stamps", "galaxies", "deblender", "n", *(title for title, _ in _COLUMNS.values())]
    lines = []
    for case in PAPER_STD:
        own = [row for row in rows if (row["stamps"], row["n_galaxies"]) == case]
        lines += [_line(row) for row in own]
        lines += _paper_lines(case) if own else []
    title = "Euclid VIS, flux of the centered galaxy"
    return Table([*header, "s/stamp"], lines, title, after=(NOTE,))


def _line(row: Row) -> list[str]:
    cells = [str(row[name]) for name in ("stamps", "n_galaxies", "deblender", "n")]
    cells += [cell(row, name, spec) for name, (_, spec) in _COLUMNS.items()]
    return [*cells, number(float(row["seconds_per_blend"]), ".4f")]


def _paper_lines(case: tuple[str, int]) -> list[list[str]]:
    """Return the paper's standard deviation, and what it says of SExtractor's fluxes."""
    start, rest = [case[0], str(case[1])], ["–"] * 7
    sextractor = ["–", "–", "–", f"{-PAPER_SEXTRACTOR:+.1%}", *["–"] * 6]
    return [
        [*start, PAPER, "–", f"{PAPER_STD[case]:.1%}", *rest, "–"],
        [*start, "SExtractor, as cited there", *sextractor],
    ]


def residual_figure(results: Sequence[Residuals], kind: str) -> bytes:
    """Draw residuals against magnitude (Figs. 4 and 5), a column for each deblender.

    Points above the red line are underestimates, as in the paper; the solid lines are the
    running mean (black) and median (yellow), the dashed ones those of the whole set.
    """
    shown = [result for result in results if result.stamps == kind]
    names = list(dict.fromkeys(result.deblender for result in shown))
    figure = Figure(figsize=(3.4 * len(names) + 0.5, 6.0), dpi=DPI)
    grid = figure.subplots(2, len(names), squeeze=False, sharex=True, sharey=True)
    for result in shown:
        axes = grid[result.n_galaxies - 1, names.index(result.deblender)]
        _panel(axes, result)
    for axes in grid.flat:
        axes.set_visible(axes.has_data())
    for axes in grid[-1]:
        axes.set_xlabel("true magnitude (AB, VIS)")
    for axes, what in zip(grid[:, 0], ("isolated", "blended"), strict=True):
        axes.set_ylabel(f"{what}\n(true − estimated) / true flux")
    figure.suptitle(f"centered galaxy, {kind} stamps", fontsize=9, y=0.995)
    figure.tight_layout(pad=0.5, rect=(0, 0, 1, 0.97))
    return to_png(
        figure,
        f"Normalized flux residuals of the centered galaxy in {kind} Euclid VIS stamps against its "
        "true magnitude; points above the red line are underestimates. Solid: running mean (black) "
        "and median (yellow); dashed: those of the whole set.",
    )


def _panel(axes: Axes, result: Residuals) -> None:
    found = np.isfinite(result.error)
    magnitude, residual = result.magnitude[found], -result.error[found]
    axes.scatter(magnitude, residual.clip(-0.6, 0.6), s=5, lw=0, alpha=0.5, color="tab:blue")
    axes.axhline(0, color="tab:red", lw=0.8)
    for statistic, color, name in ((np.mean, "k", "mean"), (np.median, "gold", "median")):
        if residual.size:
            axes.axhline(float(statistic(residual)), ls="--", lw=0.8, color=color)
        axes.plot(*running(magnitude, residual, statistic), color=color, lw=1.2, label=name)
    spread = f"std {number(float(found_std(result.error, axis=0)), '.1%')}"
    axes.set_title(f"{result.deblender}: {spread}, found {np.mean(found):.0%}", fontsize=8)
    axes.set_ylim(-0.62, 0.62)
    axes.legend(loc="lower left", fontsize=7, frameon=False)


def running(
    x: Floats, y: Floats, statistic: Callable[[Floats], Any]
) -> tuple[list[float], list[float]]:
    """Return the median of x and the statistic of y in bins of equally many points."""
    order = np.argsort(x, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    return [float(np.median(x[part])) for part in bins], [
        float(statistic(y[part])) for part in bins
    ]


def run(request: Request) -> Report:
    """Draw the sets, deblend, and report."""
    loaded = load_deblenders(request.compared, request.own_weights)
    access.check_writable(request.out)
    sets = draw_sets(request.n or DEFAULT_N, request.seed, request.catalog, request.data)
    rows, results = evaluate_nemani2023(loaded, sets)
    figures = {f"residuals_{kind}.png": residual_figure(results, kind) for kind in sets}
    return Report(rows, [residual_table(rows)], figures)
