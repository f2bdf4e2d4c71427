"""One look of all figures of the page: sizes of letters, and colors that all can tell apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes

WIDTH = 9.0
"""Of a figure in inches; the page is as wide."""
GALAXY, STAR, MARK, FAINT = "#0072b2", "#d55e00", "#222222", "#8a8f94"
"""Blue and vermilion of Okabe and Ito, whom the color-blind can tell apart; ink and gray."""
_LETTERS: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "savefig.dpi": 150,
}

BANDS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito too; markers differ as well."""


@contextmanager
def page_style() -> Iterator[None]:
    """Draw figures in the page's look meanwhile."""
    with mpl.rc_context(_LETTERS):
        yield


def legend_above(axes: Axes, columns: int = 3) -> None:
    """Put the legend above the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2,
                handlelength=1.4, columnspacing=1.2)  # fmt: skip
