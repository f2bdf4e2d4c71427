"""Everything that the protocol `singles` prints and draws."""

from __future__ import annotations

from raydeblend import access
from raydeblend.evaluate.common.baselines import load_compared
from raydeblend.evaluate.common.gallery import tile_images
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.singles.figures import classes_figure, gallery_figures
from raydeblend.evaluate.singles.run import BANDS, evaluate_singles
from raydeblend.evaluate.singles.tables import singles_tables
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.survey import get_survey

DEFAULT_N = 8
"""Galaxies of each class and magnitude."""


def run(request: Request) -> Report:
    """Catalog the grids with each deblender, and report."""
    # A name that cannot be used is found before any work.
    load_compared(request.compared, request.own_weights)
    access.check_writable(request.out)
    find_stamps(request.stamps, "test")
    survey = request.survey or "HSC"
    rows, scores = evaluate_singles(
        request.compared,
        request.n or DEFAULT_N,
        request.seed,
        request.out,
        survey,
        request.stamps,
        request.data,
        request.own_weights,
    )
    figures = {"classes.png": classes_figure(rows)}
    for score in scores:
        images = tile_images(score.tiles, BANDS, survey)
        scale = get_survey(survey).pixel_scale
        drawn = gallery_figures(score.deblender, score.grid, score.table, images, scale)
        figures |= {f"{k}_{score.grid}_{score.deblender}.png": png for k, png in drawn.items()}
    return Report(rows, singles_tables(rows), figures)
