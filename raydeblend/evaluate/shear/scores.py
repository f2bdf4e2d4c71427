"""What a catalog's shapes say of a known shear: slopes and responses, galaxy by galaxy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend.catalog import RESPONSE
from raydeblend.detect.matching import match_sky
from raydeblend.simulate.rings import ANGLES, DIRECTIONS, VIEWS, Rings

Floats = NDArray[np.float64]

RADIUS = 0.5
"""Arcsec within which a row may be a galaxy's."""


@dataclass(frozen=True)
class ShearTable:
    """n objects of m galaxies, each seen at a angles under s shears; NaN where not measured.

    Attributes
    ----------
    magnitude
        ``(n, m)`` true, in i.
    kind
        ``(n, m)`` how the galaxy is drawn.
    separation
        ``(n,)`` arcsec between the galaxies of a pair; NaN of single ones.
    axis
        ``(n, a)`` angle in radian between the x axis and the pair's.
    g, response
        ``(n, m, a, s, 2)`` shapes, and their R11 and R22.
    shear
        Size of the shears.
    """

    magnitude: Floats
    kind: NDArray[np.str_]
    separation: Floats
    axis: Floats
    g: Floats
    response: Floats
    shear: float

    @property
    def slopes(self) -> Floats:
        """``(n, m, a, 2)`` change of g1 by γ1 and of g2 by γ2; NaN unless both are measured."""
        pairs = [
            (self.g[..., 2 * i, i] - self.g[..., 2 * i + 1, i]) / (2 * self.shear) for i in (0, 1)
        ]
        return np.stack(pairs, axis=-1)

    @property
    def responses(self) -> Floats:
        """``(n, m, a, 2)`` mean R11 and R22 of the same shapes."""
        pairs = [self.response[..., 2 * i : 2 * i + 2, i].mean(-1) for i in (0, 1)]
        return np.stack(pairs, axis=-1)

    @property
    def rings(self) -> Floats:
        """``(n, m, 2)`` mean shapes of whole rings, all angles and shears."""
        return np.asarray(self.g.mean((2, 3)))

    @property
    def ring_responses(self) -> Floats:
        """``(n, m, 2)`` mean R11 and R22 of the same."""
        return np.asarray(self.response.mean((2, 3)))


def score_shear(catalog: pa.Table, rings: Rings) -> ShearTable:
    """Match the rows of each view to its galaxies, the brightest first.

    Parameters
    ----------
    catalog
        As `raydeblend.catalog` writes it, of the tiles of `simulate.rings.write_view`.
    """
    n, m = rings.offsets.shape[:2]
    shapes = (len(ANGLES), len(DIRECTIONS), n, m)
    seen = np.stack([_of_view(catalog, rings, view) for view in range(VIEWS)])
    values = np.moveaxis(seen.reshape(*shapes, 4), (0, 1), (2, 3))
    band = rings.galaxies.bands.index("i") if "i" in rings.galaxies.bands else -1
    apart = np.hypot(*(rings.offsets[:, -1] - rings.offsets[:, 0]).T)
    return ShearTable(
        magnitude=rings.galaxies.magnitude[:, band].reshape(n, m),
        kind=rings.galaxies.kind.reshape(n, m),
        separation=np.where(apart > 0, apart * rings.survey.pixel_scale, np.nan),
        axis=np.stack([rings.axis(len(DIRECTIONS) * i) for i in range(len(ANGLES))], axis=1),
        g=values[..., :2],
        response=values[..., 2:],
        shear=rings.plan.shear,
    )


def _of_view(catalog: pa.Table, rings: Rings, view: int) -> Floats:
    """Return g1, g2, R11 and R22 ``(n m, 4)`` of the galaxies of one view."""
    rows = catalog.filter(np.asarray(catalog["tile"].to_pylist()) == rings.grid.name(view))
    found = np.stack([_column(rows, name) for name in ("x", "y")], axis=1)
    true = rings.xy(view).reshape(-1, 2)
    radius = RADIUS / rings.survey.pixel_scale
    match = match_sky(true, rings.flux[:, -1], found, radius)
    names = ("g1", "g2", *RESPONSE[:2])
    values = np.stack([_column(rows, name) for name in names], axis=1)
    out = np.full((len(true), len(names)), np.nan)
    out[match >= 0] = values[match[match >= 0]]
    return out


def _column(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)
