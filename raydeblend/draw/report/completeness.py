"""Completeness from the sources that the run injected into itself, where it did."""

from __future__ import annotations

from raydeblend import storage
from raydeblend.evaluate.common.tables import Table

FOLDER = "injected"


def completeness_tables(out: str) -> list[Table]:
    """Return what injected sources say; where there are none, that."""
    if storage.list_files(storage.join(out, FOLDER)):
        return []
    words = (
        "This run injected no sources, so its completeness was not measured. The counts above end "
        "where the catalog does; the dashed lines are the depth of five sigma."
    )
    return [Table((), (), "Completeness", (words,))]
