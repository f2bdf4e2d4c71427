"""`raydeblend train bad`: the calibration of `p_bad`, on simulated tiles.

Tiles of the realistic population are simulated, cataloged with a second opinion on every blend, and
matched with their truth.  Half of them have more close pairs than the sky, to learn from; they have
an offset of their own, so that the others keep the natural rate of bad fluxes.  Rows without a true
source are left out.  Only probabilities of tiles that a fit has not seen are scored.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend import catalog, storage, tables
from raydeblend.calibrate.frame import (
    Trained,
    begin_calibration,
    card_of,
    rounded,
    write_trained,
)
from raydeblend.calibrate.logistic_fit import RIDGE, fit_logistic
from raydeblend.calibrate.scenes import PAIRS, detect_scene, sky_scene
from raydeblend.config import CatalogConfig
from raydeblend.deblend.logistic import Logistic, probability
from raydeblend.evaluate.common.calibration import calibration, calibration_table
from raydeblend.evaluate.common.sky import pair_catalog
from raydeblend.evaluate.common.tables import Table, to_markdown
from raydeblend.evaluate.survey.scores import FAR_ERROR, FAR_PULL
from raydeblend.pipeline.bad import FEATURES, BadModel, features, log_disagreement, write_bad
from raydeblend.pipeline.stages import measure_cell, stages_of
from raydeblend.simulate.scene import truth_table

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
log = logging.getLogger(__name__)

SURVEY, BANDS = "HSC", ("g", "r", "i")
DEBLENDER, OPINION = "joint", "rdn"
TILES = {"tiny": (2, 256), "small": (48, 512), "paper": (64, 1024)}
"""Number of tiles, half of them with pairs, and their side in pixels, by preset."""


@dataclass(frozen=True)
class BadExamples:
    """The n rows of one tile that have a true source and a flux.

    Attributes
    ----------
    features
        ``(n, 9)`` by `raydeblend.pipeline.bad.FEATURES`.
    disagreement
        ``(n,)``; NaN where there was no second opinion.
    bad
        ``(n,)`` the truth.
    paired
        Whether the tile has more close pairs than the sky.
    """

    features: Array
    disagreement: Array
    bad: Bools
    paired: bool

    @property
    def asked(self) -> Bools:
        """Which rows ``(n,)`` have a second opinion."""
        return np.isfinite(self.disagreement)

    @property
    def both(self) -> Array:
        """The features of rows with a second opinion, its disagreement included."""
        own = self.features[self.asked]
        return np.column_stack([own, log_disagreement(self.disagreement[self.asked])])


def train_bad(out: str, preset: str = "small", seed: int = 0) -> Trained[BadModel]:
    """Simulate, catalog, fit, score; write ``bad.json`` and ``report.md``.

    Tiles that an earlier call left in `out` are reused.

    Raises
    ------
    ConfigError
        If `preset` is unknown or `out` cannot be written.
    """
    n_tiles, size = begin_calibration(out, preset, TILES, seed)
    examples = [
        tile_examples(out, seed + 5000 + k, size, paired)
        for k in range(n_tiles // 2)
        for paired in (True, False)
    ]
    return fit_and_report(out, examples, {"tiles": n_tiles, "size": size, "seed": seed})


def tile_examples(out: str, seed: int, size: int, paired: bool) -> BadExamples:
    """Return the examples of one tile, whose catalog is made unless it is in `out` already."""
    stem = f"{size}_{'pairs' if paired else 'sky'}_{seed}"
    names = [storage.join(out, "tiles", f"{stem}_{kind}.parquet") for kind in ("rows", "truth")]
    if not storage.exists(names[1]):
        with tempfile.TemporaryDirectory() as folder:
            made = simulate_catalog(folder, seed, size, paired)
        for path, table in zip(names, made, strict=True):
            storage.write_bytes(path, tables.to_parquet(table))
        log.info("tile %d: %d sources", seed, len(made[0]))
    rows, truth = (catalog.from_bytes(storage.read_bytes(path)) for path in names)
    return examples_of(rows, truth, paired)


def simulate_catalog(folder: str, seed: int, size: int, paired: bool) -> tuple[pa.Table, pa.Table]:
    """Simulate a tile; return its catalog and its truth."""
    scene = sky_scene(SURVEY, BANDS, size, seed, paired)
    config = CatalogConfig(
        bands=BANDS, survey=SURVEY, deblender=DEBLENDER, photometry="joint", second_opinion=OPINION
    )
    detected = detect_scene(scene, seed, folder, config)
    separated = stages_of(config).deblend()(detected)
    return measure_cell(separated, config).table, truth_table(scene)


def examples_of(rows: pa.Table, truth: pa.Table, paired: bool) -> BadExamples:
    """Return the features of the rows that have a true source, and the truth."""
    match = pair_catalog(rows, truth, BANDS).match
    true = np.flatnonzero(match >= 0)
    found = rows.take(pa.array(match[true]))
    columns = {name: found[name].to_numpy(zero_copy_only=False) for name in found.column_names}
    flux, error = columns[f"flux_{BANDS[-1]}"], columns[f"flux_err_{BANDS[-1]}"]
    off = flux - truth[f"flux_{BANDS[-1]}"].to_numpy()[true]
    known = np.isfinite(off) & (error > 0) & (columns["deblender"] == DEBLENDER)
    bad = (np.abs(off) > FAR_PULL * error) & (np.abs(off) > FAR_ERROR * np.abs(flux - off))
    disagreement = np.asarray(columns["disagreement"], dtype=np.float64)
    return BadExamples(features(columns, BANDS)[known], disagreement[known], bad[known], paired)


def fit_and_report(
    out: str, examples: Sequence[BadExamples], training: dict[str, Any]
) -> Trained[BadModel]:
    """Fit on all tiles, score each tile by a fit without it, and write both."""
    sections, scores = score(examples)
    card = card_of(
        {
            "data": f"simulated {SURVEY} tiles in {','.join(BANDS)} of the population cosmos; "
            f"bad: {BANDS[-1]} off by more than {FAR_PULL:g} errors and {FAR_ERROR:.0%}",
            **training,
            "sources": sum(len(each.bad) for each in examples),
            "bad": int(sum(each.bad.sum() for each in examples)),
            "features": [*FEATURES, "log_disagreement"],
            "ridge": RIDGE,
            "pairs": PAIRS,
        },
        scores,
    )
    model = replace(fit_model(examples), card=card)
    return write_trained(out, "bad.json", model, write_bad, to_markdown(sections))


def fit_model(examples: Sequence[BadExamples]) -> BadModel:
    """Fit a model to all rows, and another to those with a second opinion."""
    return BadModel(DEBLENDER, _fit(examples, False)[0], _fit(examples, True)[0], OPINION, {})


def _fit(examples: Sequence[BadExamples], asked: bool) -> tuple[Logistic, float]:
    """Fit all rows, or those with a second opinion; also return the offset of paired tiles."""
    x = np.concatenate([each.both if asked else each.features for each in examples])
    truth = np.concatenate([each.bad[each.asked] if asked else each.bad for each in examples])
    counts = [int(each.asked.sum()) if asked else len(each.bad) for each in examples]
    paired = np.repeat([each.paired for each in examples], counts)
    return fit_logistic(x, truth, paired)


def score(examples: Sequence[BadExamples]) -> tuple[list[Table], dict[str, Any]]:
    """Return tables and numbers of how well each tile is predicted by a fit without it.

    For all rows, without the second opinion; and for the rows that have one, without and with it.
    Each for the tiles like the sky, and for all tiles.
    """
    alone, second = held_out(examples)
    truth = np.concatenate([each.bad for each in examples])
    asked = np.concatenate([each.asked for each in examples])
    sky = np.concatenate([np.full(len(each.bad), not each.paired) for each in examples])
    sections: list[Table] = []
    scores: dict[str, Any] = {}
    for tiles, own in (("sky", sky), ("all tiles", np.ones_like(sky))):
        samples = {
            "all": (alone[own], truth[own]),
            "blends, without a second opinion": (alone[own & asked], truth[own & asked]),
            f"blends, with that of {OPINION}": (second[own[asked]], truth[own & asked]),
        }
        for name, (stated, came_true) in samples.items():
            found = calibration(stated, came_true)
            sections.append(replace(calibration_table(found), title=f"{name}: {tiles}"))
            scores[f"{name}: {tiles}, held out"] = rounded(found, "bad")
    return sections, scores


def held_out(examples: Sequence[BadExamples]) -> tuple[Array, Array]:
    """Return p of all rows, and of those with a second opinion, from fits without their tile."""
    alone: list[Array] = []
    second: list[Array] = []
    for k, each in enumerate(examples):
        rest = [other for j, other in enumerate(examples) if j // 2 != k // 2]
        for asked, x, p in ((False, each.features, alone), (True, each.both, second)):
            model, offset = _fit(rest, asked)
            p.append(probability(model.logit(x) + (offset if each.paired else 0.0)))
    return np.concatenate(alone), np.concatenate(second)
