"""A figure that a notebook shows where nothing has set matplotlib up for it."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """Shown as a cell's result; matplotlib's own figures are so only after pyplot is imported."""

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()
