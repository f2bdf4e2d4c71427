"""Tables of an evaluation, as Markdown, with the paper's numbers beside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raydeblend.evaluate.wang2022 import (
    PAPER_QUALITY,
    PAPER_SCORES,
    Row,
    Scores,
    quality_fractions,
)

PAPER = "Wang et al. 2022"
_COLUMNS = {
    "psnr_mean": ("PSNR mean", ".2f"),
    "psnr_median": ("median", ".2f"),
    "ssim_mean": ("SSIM mean", ".4f"),
    "ssim_median": ("median", ".4f"),
    "flux_bias": ("flux bias", "+.3f"),
    "flux_nmad": ("NMAD", ".3f"),
    "flux_mape": ("mape", ".3f"),
    "found": ("found", ".3f"),
}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned in plain text too."""
    columns = [header, *rows]
    widths = [max(len(row[i]) for row in columns) for i in range(len(header))]
    lines = [_line(row, widths) for row in columns]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return "| " + " | ".join(cells) + " |"


def number(value: float, spec: str) -> str:
    """Format a number; a dash for one that does not exist."""
    return format(value, spec) if np.isfinite(value) else "–"


def score_table(rows: Sequence[Row]) -> str:
    """Return PSNR, SSIM and flux errors by galaxy; the paper's Table II follows each group."""
    header = ["galaxy", "deblender", "n", *(title for title, _ in _COLUMNS.values()), "s/blend"]
    ordered = sorted(rows, key=lambda row: (int(row["n_galaxies"]), int(row["galaxy"])))
    lines = []
    for row, following in zip(ordered, [*ordered[1:], None], strict=True):
        lines.append(_score_line(row))
        if following is None or _case(following) != _case(row):
            lines.append(_paper_line(_case(row)))
    return markdown(header, lines)


def _case(row: Row) -> tuple[int, int]:
    return int(row["n_galaxies"]), int(row["galaxy"])


def _score_line(row: Row) -> list[str]:
    values = [number(float(row[name]), spec) for name, (_, spec) in _COLUMNS.items()]
    seconds = number(float(row["seconds_per_blend"]), ".4f")
    return [_label(_case(row)), str(row["deblender"]), str(row["n"]), *values, seconds]


def _paper_line(case: tuple[int, int]) -> list[str]:
    psnr_mean, psnr_median, ssim_mean, ssim_median = PAPER_SCORES[case]
    values = [f"{psnr_mean:.2f}", f"{psnr_median:.2f}", f"{ssim_mean:.4f}", f"{ssim_median:.4f}"]
    return [_label(case), PAPER, "1000", *values, *["–"] * 5]


def _label(case: tuple[int, int]) -> str:
    return f"{case[1]} of {case[0]}"


def quality_table(scores: Sequence[Scores]) -> str:
    """Return the fractions of each deblending quality, with the paper's Table I."""
    lines = []
    for k in sorted({score.n_galaxies for score in scores}):
        for score in (score for score in scores if score.n_galaxies == k):
            fractions = [f"{value:.1%}" for value in quality_fractions(score).values()]
            lines.append([str(k), score.deblender, *fractions])
        lines.append([str(k), PAPER, *(f"{value:.1%}" for value in PAPER_QUALITY[k]), "–"])
    return markdown(["galaxies", "deblender", "high", "medium", "low", "none"], lines)
