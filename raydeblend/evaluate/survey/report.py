"""Everything that the protocol `survey` prints and draws."""

from __future__ import annotations

from raydeblend import access
from raydeblend.evaluate.common.baselines import load_compared
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.survey.figures import reliability_figure, residuals_figure, trends_figure
from raydeblend.evaluate.survey.gallery import gallery_figures
from raydeblend.evaluate.survey.run import BANDS, Sky, evaluate_survey
from raydeblend.evaluate.survey.tables import survey_tables

DEFAULT_N = 4
"""Tiles."""


def run(request: Request) -> Report:
    """Catalog the tiles with each deblender, and report."""
    # A name that cannot be used is found before any work.
    load_compared(request.compared, request.own_weights)
    access.check_writable(request.out)
    sky = Sky(
        survey=request.survey or "HSC",
        population=request.population or "cosmos",
        n_tiles=request.n or DEFAULT_N,
        seed=request.seed,
        tiles=request.data,
        catalog=request.catalog,
        stamps=request.stamps,
    )
    rows, scores = evaluate_survey(request.compared, sky, request.out, request.own_weights)
    band = BANDS[-1]
    figures = {
        "trends.png": trends_figure(rows, band),
        "residuals.png": residuals_figure(scores, band),
    }
    for score in scores:
        figures |= gallery_figures(score, sky.survey)
    reliability = reliability_figure(scores)
    figures |= {} if reliability is None else {"calibration.png": reliability}
    return Report(rows, survey_tables(rows, scores, band), figures)
