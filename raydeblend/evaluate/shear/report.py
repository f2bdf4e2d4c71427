"""Everything that the protocol `shear` prints and draws."""

from __future__ import annotations

from raydeblend import access
from raydeblend.evaluate.common.baselines import load_compared
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.shear.figures import bias_figure
from raydeblend.evaluate.shear.run import evaluate_shear
from raydeblend.evaluate.shear.tables import shear_tables
from raydeblend.simulate.population.stamps import find_stamps

DEFAULT_N = 200
"""Single galaxies, and pairs."""


def run(request: Request) -> Report:
    """Draw the rings, catalog them with each deblender, and report."""
    # A name that cannot be used is found before any work.
    load_compared(request.compared, request.own_weights)
    access.check_writable(request.out)
    find_stamps(request.stamps, "test")
    survey = request.survey or "HSC"
    rows = evaluate_shear(
        request.compared,
        request.n or DEFAULT_N,
        request.seed,
        request.out,
        survey,
        request.stamps,
        weights=request.own_weights,
    )
    return Report(rows, shear_tables(rows), {"bias.png": bias_figure(rows)})
