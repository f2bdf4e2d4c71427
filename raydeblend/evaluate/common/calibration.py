"""How well a probability keeps what it says: reliability, calibration error, ROC, purity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.common.tables import Table, number

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

EDGES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)
"""Of the bins of probability; narrow where most sources are."""


@dataclass(frozen=True)
class Calibration:
    """The scores of n probabilities.

    Attributes
    ----------
    n, positives
        Sources, and how many of them are what the probability is of.
    ece
        Expected calibration error: mean over sources of |mean p − true fraction| of their bin
        (Naeini et al. 2015).
    brier
        Mean of (p − truth)².
    auc
        Area under the ROC curve; NaN without both kinds.
    bins
        ``(m, 6)``: lower and upper edge, number, mean p, true fraction, its standard error.
    """

    n: int
    positives: int
    ece: float
    brier: float
    auc: float
    bins: Floats


def calibration(
    probability: NDArray[np.floating],
    happened: NDArray[np.bool_],
    edges: Sequence[float] = EDGES,
) -> Calibration:
    """Score probabilities ``(n,)`` against the truth ``(n,)``; NaN probabilities are left out."""
    known = np.isfinite(probability)
    p = np.asarray(probability, dtype=np.float64)[known]
    truth = np.asarray(happened, dtype=bool)[known]
    number_of = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)
    rows = [
        _bin(edges[k], edges[k + 1], p[number_of == k], truth[number_of == k])
        for k in range(len(edges) - 1)
        if np.any(number_of == k)
    ]
    bins = np.array(rows, dtype=np.float64).reshape(-1, 6)
    share = bins[:, 2] / max(len(p), 1)
    return Calibration(
        n=len(p),
        positives=int(truth.sum()),
        ece=float((share * np.abs(bins[:, 3] - bins[:, 4])).sum()),
        brier=float(np.mean((p - truth) ** 2)) if len(p) else float("nan"),
        auc=float(roc_auc_score(truth, p)) if _both_kinds(truth) else float("nan"),
        bins=bins,
    )


def _bin(low: float, high: float, p: Floats, truth: Bools) -> list[float]:
    # Laplace's estimate of the fraction, so that no or all positives have an error too.
    fraction = (truth.sum() + 1) / (len(p) + 2)
    error = np.sqrt(fraction * (1 - fraction) / len(p))
    return [low, high, len(p), float(p.mean()), float(truth.mean()), float(error)]


def roc(p: Floats, truth: Bools) -> tuple[Floats, Floats]:
    """Return false and true positive rates for falling thresholds, from (0, 0) to (1, 1).

    Empty where there are not both kinds, of which one rate is 0 / 0.
    """
    if not _both_kinds(truth):
        return np.zeros(0), np.zeros(0)
    false, true, _ = roc_curve(truth, p, drop_intermediate=False)
    return false, true


def _both_kinds(truth: Bools) -> bool:
    return bool(truth.any() and not truth.all())


def purity_rows(
    p: Floats, truth: Bools, thresholds: Sequence[float] = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
) -> list[dict[str, float]]:
    """Return for each threshold how many reach it, and the purity and completeness of these."""
    rows = []
    for threshold in thresholds:
        above = p >= threshold
        hit = int((above & truth).sum())
        rows.append(
            {
                "threshold": threshold,
                "above": int(above.sum()),
                "purity": hit / above.sum() if above.any() else float("nan"),
                "completeness": hit / truth.sum() if truth.any() else float("nan"),
            }
        )
    return rows


def calibration_table(score: Calibration) -> Table:
    """Return the bins, with the scores below."""
    lines = [
        [f"{low:g}–{high:g}", f"{n:.0f}", f"{p:.3f}", f"{true:.3f} ± {error:.3f}"]
        for low, high, n, p, true, error in score.bins
    ]
    words = (
        f"{score.n} sources, {score.positives} true; expected calibration error "
        f"{number(score.ece, '.4f')}, Brier score {number(score.brier, '.4f')}, "
        f"area under the ROC curve {number(score.auc, '.3f')}"
    )
    return Table(["p", "sources", "mean p", "true fraction"], lines, after=(words,))


def purity_table(rows: Sequence[dict[str, float]]) -> Table:
    """Return a line for each of `purity_rows`."""
    lines = [
        [
            f"{row['threshold']:g}",
            f"{row['above']:.0f}",
            number(row["purity"], ".2f"),
            number(row["completeness"], ".2f"),
        ]
        for row in rows
    ]
    return Table(["p at least", "sources", "purity", "completeness"], lines)


def calibration_figure(
    samples: Mapping[str, tuple[NDArray[np.floating], NDArray[np.bool_]]], title: str
) -> bytes:
    """Draw the reliability diagram, the ROC curve and the distribution of p, as PNG.

    Parameters
    ----------
    samples
        By label: probabilities and truth, both ``(n,)``.
    """
    figure = Figure(figsize=(11, 3.9), dpi=DPI, layout="constrained")
    reliability, curve, counts = figure.subplots(1, 3)
    reliability.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--", label="perfect")
    for k, (label, (given, happened)) in enumerate(samples.items()):
        p, truth = np.asarray(given, dtype=np.float64), np.asarray(happened, dtype=bool)
        color = f"C{k}"
        score = calibration(p, truth)
        x, y, error = score.bins[:, 3], score.bins[:, 4], score.bins[:, 5]
        text = f"{label}: ECE {score.ece:.4f}"
        reliability.errorbar(x, y, error, fmt="o", ms=4, capsize=2, color=color, label=text)
        curve.plot(*roc(p, truth), color=color, label=f"{label}: area {score.auc:.3f}")
        for kind, style, word in ((~truth, "-", "one"), (truth, "--", "two")):
            edges = np.linspace(0, 1, 21)
            counts.hist(p[kind], edges, histtype="step", color=color, ls=style,
                        label=f"{label}, {word}")  # fmt: skip
    counts.set(yscale="log", xlabel="p", ylabel="sources", title="how many")
    reliability.set(xlabel="mean p of the bin", ylabel="true fraction", title="reliability")
    reliability.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    curve.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    for axes in (reliability, curve, counts):
        axes.legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    return to_png(figure)
