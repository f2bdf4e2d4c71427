"""`raydeblend train star`: the calibration of `p_star`, on simulated tiles.

Tiles of the realistic population are simulated with `STARS` times as many stars as the sky has, go
through detection and the joint deblender as in a catalog, and are matched with their truth.  More
stars of the same kind raise the odds of every source by the same factor, which is taken out again;
in the scores each star counts as 1 / `STARS`.  Every probability that is scored is of a tile that
the fit has not seen.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from raydeblend import storage
from raydeblend.calibrate.frame import Trained, begin_calibration, card_of, write_trained
from raydeblend.calibrate.logistic_fit import fit_logistic
from raydeblend.calibrate.scenes import detect_scene, truth_places
from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.logistic import Logistic
from raydeblend.evaluate.common.tables import Table, to_markdown
from raydeblend.measure.point_sources import PointSources, measure_points
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.stars import (
    COLORS,
    SIZES,
    StarModel,
    color_features,
    size_features,
    write_stars,
)
from raydeblend.simulate.population.field import realistic_scene
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.population.stars import draw_locus_stars
from raydeblend.simulate.scene import MARGIN, Grid, Scene, truth_table
from raydeblend.simulate.tiles import REALISTIC_DENSITY
from raydeblend.survey import NJY_ZERO_POINT, get_survey

Array = NDArray[np.float64]
log = logging.getLogger(__name__)

SURVEY, BANDS = "HSC", ("g", "r", "i")
STARS = 10
"""Times as many stars as the sky has."""
RADIUS = 0.5
"""Arcsec within which the brightest true source is the one that was found."""
TILES = {"tiny": (2, 256), "small": (6, 768), "paper": (24, 1024)}
"""Tiles and their side in pixels, by preset."""
MAGNITUDES = (
    (15.0, 18.0),
    (18.0, 22.0),
    (22.0, 23.0),
    (23.0, 24.0),
    (24.0, 24.5),
    (24.5, 25.0),
    (25.0, 25.5),
)
"""Bins of the true magnitude in i."""
RIDGE = 0.5
"""Of the weights, whose features have unit variance."""
TRUSTED = 0.5
"""Probability from which a source is counted as a star."""


@dataclass(frozen=True)
class StarExamples:
    """The sources of one tile.

    Attributes
    ----------
    flux, flux_err, excess, excess_err, lost
        See `PointSources`.
    is_star
        ``(n,)`` the truth.
    magnitude
        ``(n,)`` true, in i; NaN of a source that nothing true lies at.
    """

    flux: Array
    flux_err: Array
    excess: Array
    excess_err: Array
    lost: Array
    is_star: NDArray[np.bool_]
    magnitude: Array

    @property
    def points(self) -> PointSources:
        """What is seen."""
        return PointSources(self.flux, self.flux_err, self.excess, self.excess_err, self.lost)


def train_stars(out: str, preset: str = "small", seed: int = 0) -> Trained[StarModel]:
    """Simulate, catalog, fit, score; write ``star.json`` and ``report.md``.

    What an earlier call left in `out`, tile by tile, is reused.

    Raises
    ------
    ConfigError
        If `preset` is unknown or `out` cannot be written.
    """
    n_tiles, size = begin_calibration(out, preset, TILES, seed)
    examples = [tile_examples(out, seed + 3000 + k, size) for k in range(n_tiles)]
    return fit_and_report(out, examples, {"tiles": n_tiles, "size": size, "seed": seed})


def tile_examples(out: str, seed: int, size: int) -> StarExamples:
    """Return the examples of one tile, made unless they are in `out` already."""
    path = storage.join(out, "examples", f"{size}_{seed}.npz")
    if storage.exists(path):
        with np.load(io.BytesIO(storage.read_bytes(path))) as arrays:
            return StarExamples(**{f.name: arrays[f.name] for f in fields(StarExamples)})
    with tempfile.TemporaryDirectory() as folder:
        examples = simulate_examples(folder, seed, size)
    buffer = io.BytesIO()
    np.savez(buffer, **vars(examples))
    storage.write_bytes(path, buffer.getvalue())
    log.info("tile %d: %d sources, %d stars", seed, len(examples.lost), examples.is_star.sum())
    return examples


def simulate_examples(folder: str, seed: int, size: int) -> StarExamples:
    """Simulate a tile, deblend it as one cell of a catalog, and look at its sources."""
    survey = get_survey(SURVEY)
    grid = Grid(1, size, 0, survey.pixel_scale)
    scene = realistic_scene(
        survey, BANDS, grid, REALISTIC_DENSITY, seed, find_stamps(None, "train")
    )
    scene = with_stars(scene, STARS, seed)
    config = CatalogConfig(bands=BANDS, survey=SURVEY)
    detected = detect_scene(scene, seed, folder, config)
    header = detected.task.cell.tile
    deblend = DeblendCell(config, JointDeblender.load())
    deblend.suspects = None
    separated = deblend(detected)
    pairs = list(zip(detected.blends, separated.parts, strict=True))
    rows = [
        measure_points(blend, part.models, part.xy, detected.psf_of(blend)) for blend, part in pairs
    ]
    xy = np.concatenate([part.xy + np.array([b.box.x0, b.box.y0]) for b, part in pairs])
    truth = truth_table(scene)
    place, flux = truth_places(truth, header.wcs, "i")
    found = brightest_within(xy, place, flux, RADIUS / header.pixel_scale)
    none = found < 0
    stars = truth["is_star"].to_numpy(zero_copy_only=False)
    points = {
        f.name: np.concatenate([getattr(r, f.name) for r in rows]) for f in fields(PointSources)
    }
    magnitude = NJY_ZERO_POINT - 2.5 * np.log10(flux[found])
    return StarExamples(
        **points,
        is_star=np.where(none, False, stars[found]),
        magnitude=np.where(none, np.nan, magnitude),
    )


def with_stars(scene: Scene, times: int, seed: int) -> Scene:
    """Return a field with `times` as many stars."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(5,)))
    field = scene.grid.extent.grow(MARGIN)
    area = float(np.prod(field.shape)) * (scene.grid.pixel_scale / 60) ** 2
    flux = draw_locus_stars((times - 1) * area, scene.bands, rng)
    xy = rng.uniform((field.x0, field.y0), (field.x1, field.y1), (len(flux), 2)) - 0.5
    return replace(
        scene, xy=np.concatenate([scene.xy, xy]), flux=np.concatenate([scene.flux, flux])
    )


def brightest_within(xy: Array, place: Array, flux: Array, radius: float) -> NDArray[np.intp]:
    """Return the brightest true source within a radius of each place ``(n,)``; -1 for none."""
    near = KDTree(place).query_ball_point(xy, radius)
    return np.array([max(own, key=lambda j: flux[j]) if own else -1 for own in near], dtype=np.intp)


def fit_and_report(
    out: str, examples: Sequence[StarExamples], training: dict[str, Any]
) -> Trained[StarModel]:
    """Fit on all tiles, score on each by a fit without it, and write what comes out."""
    p = held_out(examples)
    table, scores = score(p, _joined(examples, "is_star"), _joined(examples, "magnitude"))
    card = card_of(
        {
            "data": f"simulated {SURVEY} tiles in {','.join(BANDS)} of the population cosmos, "
            f"{STARS} times as many stars",
            **training,
            "sources": len(p),
            "stars": int(_joined(examples, "is_star").sum()),
            "features": [*SIZES, *COLORS],
        },
        scores,
    )
    model = replace(fit_model(examples), card=card)
    return write_trained(out, "star.json", model, write_stars, to_markdown([table]))


def held_out(examples: Sequence[StarExamples]) -> Array:
    """Return the probability of every source by a fit without its tile."""
    parts = []
    for k, each in enumerate(examples):
        rest = [other for j, other in enumerate(examples) if j != k]
        parts.append(fit_model(rest).p_star(each.points, BANDS))
    return np.concatenate(parts)


def fit_model(examples: Sequence[StarExamples]) -> StarModel:
    """Fit both sets of features, for as many stars as the sky has."""
    sizes = np.concatenate([size_features(each.points, BANDS) for each in examples])
    colors = np.concatenate([color_features(each.points, BANDS) for each in examples])
    truth = _joined(examples, "is_star").astype(bool)
    both = np.column_stack([sizes, colors])
    return StarModel(_fit(sizes, truth), _fit(both, truth), {})


def _fit(features: Array, truth: NDArray[np.bool_]) -> Logistic:
    known = np.isfinite(features).all(1)
    model, _ = fit_logistic(
        features[known], truth[known], np.zeros(known.sum(), dtype=bool), ridge=RIDGE
    )
    return replace(model, intercept=model.intercept - float(np.log(STARS)))


def score(
    p: Array, is_star: NDArray[np.bool_], magnitude: Array
) -> tuple[Table, list[dict[str, float]]]:
    """Return completeness and purity of sources with p above `TRUSTED`, and the sum of p.

    Each star counts as 1 / `STARS`.
    """
    rows: list[dict[str, float]] = []
    weight = np.where(is_star, 1 / STARS, 1.0)
    for low, high in MAGNITUDES:
        inside = (magnitude >= low) & (magnitude < high) & np.isfinite(p)
        chosen = inside & (p >= TRUSTED)
        stars, kept = weight[inside & is_star].sum(), weight[chosen & is_star].sum()
        rows.append(
            {
                "faint": high,
                "stars": int((inside & is_star).sum()),
                "complete": round(float(kept / max(stars, 1e-9)), 3),
                "pure": round(float(kept / max(weight[chosen].sum(), 1e-9)), 3),
                "expected": round(float((p * weight)[inside].sum()), 2),
                "true": round(float(stars), 2),
            }
        )
    header = ("i below", "stars seen", "complete", "pure", "sum of p", "stars in the sky")
    cells = [tuple(str(value) for value in row.values()) for row in rows]
    return Table(header, cells, "p_star above 0.5, held-out tiles"), rows


def _joined(examples: Sequence[StarExamples], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(each, name) for each in examples])
