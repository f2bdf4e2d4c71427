"""The protocol `shear`: rings of galaxies through the whole pipeline, and the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raydeblend import storage
from raydeblend.evaluate.common.catalogs import make_catalog
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.shear.rows import PAIR, SINGLE, make_rows
from raydeblend.evaluate.shear.scores import score_shear
from raydeblend.session import ray_session
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.rings import PAIRS, VIEWS, RingPlan, draw_rings, write_view
from raydeblend.simulate.tiles import write_in_parallel
from raydeblend.survey import get_survey

BANDS = ("g", "r", "i")
CELL_SIZE = 1024
PLANS: Mapping[str, RingPlan] = {SINGLE: RingPlan(), PAIR: PAIRS}


def evaluate_shear(
    deblenders: Sequence[str],
    n: int,
    seed: int,
    out: str,
    survey: str,
    stamps: str | None = None,
    plans: Mapping[str, RingPlan] = PLANS,
    weights: Mapping[str, str] | None = None,
) -> list[Row]:
    """Draw the rings, catalog all views with each deblender, and score the shapes.

    Parameters
    ----------
    n
        Single galaxies, and pairs.
    out
        Gets the tiles and the catalogs.
    stamps
        A folder of HST galaxies, of which those of the test split are drawn.
    weights
        By the deblender's name, in place of those shipped.

    Raises
    ------
    ConfigError
        If a catalog cannot be made.
    """
    rows: list[Row] = []
    found = find_stamps(stamps, "test")
    with ray_session():
        for objects, plan in plans.items():
            rings = draw_rings(get_survey(survey), BANDS, plan, n, seed, found)
            folder = storage.join(out, "tiles", objects)
            list(write_in_parallel(write_view, rings, VIEWS, seed, storage.absolute(folder)))
            for name in deblenders:
                place = storage.join(out, "catalogs", objects, name)
                made = make_catalog(
                    name, folder, place, survey, BANDS, CELL_SIZE, (weights or {}).get(name)
                )
                table = score_shear(made.table, rings)
                rows += make_rows(name, objects, table, plan.edges, made.seconds)
    return rows
