"""Everything that the protocol of Wang et al. (2022) prints and draws."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from raydeblend import access
from raydeblend.deblend.counter import GalaxyCounter
from raydeblend.deblend.peeling.rdn import RdnDeblender
from raydeblend.evaluate.common.baselines import load_compared
from raydeblend.evaluate.common.blends import BlendSet, read_blends, to_blend_set
from raydeblend.evaluate.common.request import BASELINE, Report, Request
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.wang2022.counting import count_test_set, counter_rows, counter_table
from raydeblend.evaluate.wang2022.failure_figures import failure_figure
from raydeblend.evaluate.wang2022.failures import pair_up
from raydeblend.evaluate.wang2022.figures import flux_figure, moment_figure, quality_flux_figure
from raydeblend.evaluate.wang2022.gallery import gallery_figure
from raydeblend.evaluate.wang2022.reading_tables import reading_rows, reading_tables
from raydeblend.evaluate.wang2022.score_tables import quality_table, score_table
from raydeblend.evaluate.wang2022.scores import Scores, evaluate_wang2022
from raydeblend.evaluate.wang2022.tables import failure_table, flux_table, moment_table
from raydeblend.simulate.protocols import wang2022_blends
from raydeblend.tile import Deblender

DEFAULT_N = 1000
"""Blends drawn of each number of galaxies."""


def run(request: Request) -> Report:
    """Read or draw the test set, and report on it."""
    loaded = load_compared(request.chosen, request.own_weights)
    test_set = read_blends(request.data) if request.data is not None else None
    access.check_writable(request.out)
    if test_set is None:
        test_set = to_blend_set(wang2022_blends(request.n or DEFAULT_N, request.seed))
    # The counter of a training of one's own is scored with it.
    own = [loaded[name] for name in request.own_weights]
    counter = own[0].counter if own and isinstance(own[0], RdnDeblender) else GalaxyCounter.load()
    return report_wang2022(loaded, test_set, request.n, BASELINE, counter)


def report_wang2022(
    deblenders: Mapping[str, Deblender],
    data: BlendSet,
    n: int | None,
    baseline: str,
    counter: GalaxyCounter,
) -> Report:
    """Score deblenders and a counter; the galleries of failures compare with `baseline`."""
    part = data if n is None else data.first(n)
    rows, scores = evaluate_wang2022(deblenders, part)
    readings, counts = reading_rows(scores), count_galaxies(part, counter)
    tables = [
        score_table(rows),
        quality_table(rows),
        flux_table(scores),
        moment_table(scores),
        failure_table(scores),
        *reading_tables(readings),
    ]
    files = draw_figures(deblenders, scores, part, baseline)
    files["psnr_readings.json"] = _json(readings)
    if counts:
        tables.append(counter_table(counts))
        files["counter.json"] = _json(counts)
    return Report(rows, tables, files)


def _json(rows: Sequence[Row]) -> bytes:
    return (json.dumps(rows, indent=1) + "\n").encode()


def count_galaxies(data: BlendSet, counter: GalaxyCounter) -> list[Row]:
    """Return the accuracies of a counter; nothing for bands that it does not know."""
    return counter_rows(count_test_set(counter, data)) if counter.bands == data.bands else []


def draw_figures(
    deblenders: Mapping[str, Deblender], scores: Sequence[Scores], data: BlendSet, baseline: str
) -> dict[str, bytes]:
    """Return the figures as PNG files by name."""
    numbers = sorted({score.n_galaxies for score in scores})
    figures = {
        f"flux_{k}.png": flux_figure([s for s in scores if s.n_galaxies == k]) for k in numbers
    }
    for score in scores:
        name = f"{score.deblender}_{score.n_galaxies}.png"
        blends = next(part for part in data.blends if part.n_galaxies == score.n_galaxies)
        figures[f"gallery_{name}"] = gallery_figure(blends[: len(score.models)], score)
        figures[f"moments_{name}"] = moment_figure(score)
        if len(set(score.quality)) > 1:
            figures[f"quality_{name}"] = quality_flux_figure(score)
    return figures | _failures(deblenders, scores, data, baseline)


def _failures(
    deblenders: Mapping[str, Deblender], scores: Sequence[Scores], data: BlendSet, baseline: str
) -> dict[str, bytes]:
    figures = {}
    others = pair_up(scores, baseline)
    for score in scores:
        other = others.get((score.deblender, score.n_galaxies))
        if other is None:
            continue
        pair = deblenders[score.deblender], deblenders[baseline]
        figure = failure_figure(*pair, score, other, data)
        if figure is not None:
            figures[f"failures_{score.deblender}_{score.n_galaxies}.png"] = figure
    return figures
