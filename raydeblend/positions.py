"""Positions on the sky at which a user wants sources measured: a table of ra, dec and ids."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.errors import ConfigError
from raydeblend.sky_tables import Columns, read_sky_table


@dataclass(frozen=True, eq=False)
class SkyPositions:
    """n positions in degrees (ICRS), and what each is called.

    Attributes
    ----------
    names
        ``(n,)``; the number of the row where the table has no column ``id``.
    shapes
        ``(n, 9)`` columns `templates.SHAPE` of the galaxy there, NaN for a point source; None where
        shapes are to be fitted.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    names: NDArray[np.str_]
    shapes: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ra)

    @property
    def sha256(self) -> str:
        """Hash of all that they say."""
        digest = hashlib.sha256(self.ra.tobytes() + self.dec.tobytes())
        digest.update("\n".join(self.names.tolist()).encode())
        if self.shapes is not None:
            digest.update(self.shapes.tobytes())
        return digest.hexdigest()


def read_positions(path: str) -> SkyPositions:
    """Read a table of positions; see `raydeblend.sky_tables.read_sky_table`.

    Raises
    ------
    ConfigError
        If there is no such table, or it lacks a column, has no row, a value that is no position
        on the sky, or an id twice.
    """
    return to_positions(f"the positions {path}", read_sky_table(path, "positions"))


def to_positions(where: str, columns: Columns) -> SkyPositions:
    """Return the positions of a table; `where` is what it is called in messages.

    Raises
    ------
    ConfigError
        See `read_positions`.
    """
    names = columns.get("id", np.arange(len(columns["ra"])))
    positions = SkyPositions(columns["ra"], columns["dec"], names.astype(np.str_))
    _check(where, positions)
    return positions


def _check(where: str, positions: SkyPositions) -> None:
    if not len(positions):
        raise ConfigError(f"{where} have no row")
    wrong = ~((positions.ra >= 0) & (positions.ra < 360) & (np.abs(positions.dec) <= 90))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ConfigError(
            f"row {first} of {where} is not a position on the sky: "
            f"ra {positions.ra[first]}, dec {positions.dec[first]}; valid: "
            "0 to 360 and -90 to 90 degrees"
        )
    names, counts = np.unique(positions.names, return_counts=True)
    if (counts > 1).any():
        raise ConfigError(f"{where} have the id {names[counts > 1][0]} twice")
