"""Everything that the protocol `survey` prints and draws."""

from __future__ import annotations

from raydeblend import storage
from raydeblend.evaluate.common.baselines import load_compared
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.survey.figures import reliability_figure, residuals_figure, trends_figure
from raydeblend.evaluate.survey.run import BANDS, evaluate_survey
from raydeblend.evaluate.survey.tables import survey_tables

DEFAULT_N = 4
"""Tiles."""


def run(request: Request) -> Report:
    """Catalog the tiles with each deblender, and report."""
    load_compared(request.compared)  # A name that cannot be used is found before any work.
    storage.check_writable(request.out)
    n = request.n or DEFAULT_N
    rows, scores = evaluate_survey(request.compared, n, request.seed, request.out, request.data)
    band = BANDS[-1]
    figures = {
        "trends.png": trends_figure(rows, band),
        "residuals.png": residuals_figure(scores, band),
    }
    reliability = reliability_figure(scores)
    figures |= {} if reliability is None else {"calibration.png": reliability}
    return Report(rows, survey_tables(rows, scores, band), figures)
