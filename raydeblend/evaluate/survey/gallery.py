"""Pictures of what a catalog of fields has wrong: spurious rows, missed and misjudged galaxies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common.gallery import Place, gallery_figure, tile_images
from raydeblend.evaluate.common.sky import Pairing, pair_catalog, primary
from raydeblend.evaluate.survey.run import BANDS, SurveyScores
from raydeblend.evaluate.survey.scores import FAR_ERROR, FAR_PULL

FAINT = 24.5
"""In i; fainter faults are not shown."""


def gallery_figures(score: SurveyScores, survey: str) -> Mapping[str, bytes]:
    """Draw the brightest spurious rows and the worst fluxes, by name, where there are any."""
    if score.catalog is None or score.truth is None:
        return {}
    catalog = primary(score.catalog)
    pairing = pair_catalog(catalog, score.truth, BANDS)
    xy = np.stack([catalog[name].to_numpy() for name in ("x", "y")], axis=1)
    tile = np.asarray(catalog["tile"].to_pylist())
    err = catalog[f"flux_err_{BANDS[-1]}"].to_numpy().astype(np.float64)
    figures = {}
    for name, (rows, titles, words) in {
        "spurious": _spurious(pairing),
        "catastrophic": _catastrophic(pairing, err),
    }.items():
        places = [
            Place(str(tile[row]), (xy[row, 0], xy[row, 1]), title, xy[tile == tile[row]])
            for row, title in zip(rows, titles, strict=True)
        ]
        if places:
            caption = f"{score.deblender}: {words}; circles are rows of the catalog."
            images = tile_images(score.tiles, BANDS, survey)
            figures[f"{name}_{score.deblender}.png"] = gallery_figure(places, images, caption)
    return figures


Shown = tuple[NDArray[np.int64], list[str], str]
"""Rows of the catalog, the worst first; what is written above each; what they are."""


def _spurious(pairing: Pairing) -> Shown:
    free = np.ones(len(pairing.found.position), dtype=bool)
    free[pairing.match[pairing.match >= 0]] = False
    magnitude = pairing.found.magnitude(-1)
    rows = np.flatnonzero(free & (magnitude < FAINT))
    rows = rows[np.argsort(magnitude[rows])]
    return rows, [f"i {magnitude[row]:.1f}" for row in rows], "rows without a true source"


def _catastrophic(pairing: Pairing, err: NDArray[np.float64]) -> Shown:
    true = np.flatnonzero(pairing.counted & (pairing.match >= 0))
    rows = pairing.match[true]
    flux, flux_true = pairing.found.flux[rows, -1], pairing.true.flux[true, -1]
    magnitude = pairing.true.magnitude(-1)[true]
    pull, error = (flux - flux_true) / err[rows], flux / flux_true - 1
    far = (np.abs(pull) > FAR_PULL) & (np.abs(error) > FAR_ERROR) & (magnitude < FAINT)
    order = np.flatnonzero(far)[np.argsort(-np.abs(pull[far]))]
    titles = [f"i {magnitude[k]:.1f}  {error[k]:+.0%}" for k in order]
    return rows[order], titles, "fluxes wrong by more than 5σ and 20 % (true i, error)"
