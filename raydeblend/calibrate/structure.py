"""`raydeblend train structure`: which sources of a joint fit are structure of a galaxy.

Isolated real galaxies are drawn on a grid: what is found beside the brightest source of one is its
structure.  Neighbors are those of fields of the realistic population and of the blends of Wang et
al. (2022), deep and smooth, that lie at a true galaxy other than their host's.  The galaxies are
those of the training split; the scores are those of the validation split, which no fit has seen.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from raydeblend.calibrate.frame import Trained, begin_calibration, card_of, write_trained
from raydeblend.calibrate.scenes import detect_scene
from raydeblend.calibrate.training import fit_logistic, truth_places
from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.config import StructureConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.structure import (
    Attachments,
    StructureModel,
    attachments,
    is_structure,
    write_structure,
)
from raydeblend.deblend.logistic import Logistic
from raydeblend.deblend.masks import mask_for
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.tables import Table, to_markdown
from raydeblend.pipeline.batches import deblender_image, psf_for
from raydeblend.simulate.galaxies import HUDF, REAL
from raydeblend.simulate.population.field import realistic_scene
from raydeblend.simulate.population.stamps import Stamps, find_stamps
from raydeblend.simulate.protocols import wang2022_blends
from raydeblend.simulate.scene import Grid, Scene, truth_table
from raydeblend.simulate.singles import SinglesPlan, singles_scene
from raydeblend.simulate.tiles import REALISTIC_DENSITY
from raydeblend.survey import get_survey

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
log = logging.getLogger(__name__)

SURVEY, BANDS = "HSC", ("g", "r", "i")
RADIUS = 2.5
"""Pixels within which a source is the true galaxy that it lies at."""
FACTOR = 3.0
"""Its flux is at most so many times more or less than the true one."""
FLUX_BAND = "i"
SIZES = {
    "tiny": (1, 1, 2, 256, 5),
    "small": (5, 3, 18, 900, 150),
    "paper": (6, 6, 18, 2000, 400),
}
"""By preset: grids to learn from and to score on, with a field each, galaxies of each class and
magnitude on one, side of a field in pixels, and blends of two and of three galaxies."""
VALIDATION_SEEDS = 500
"""By which the seeds of the validation split are higher."""


@dataclass(frozen=True)
class StructureExamples:
    """Sources that have a brighter one: what is seen of them, and what they are.

    Attributes
    ----------
    features
        ``(n, f)``.
    is_structure
        ``(n,)``.
    origin
        ``(n,)`` of `singles`, `fields` and `blends`.
    galaxy
        ``(n,)`` number of the host, different for each.
    """

    features: Array
    is_structure: Bools
    origin: NDArray[np.str_]
    galaxy: NDArray[np.intp]


def train_structure(
    out: str, preset: str = "small", seed: int = 0, stamps: str | None = None
) -> Trained[StructureModel]:
    """Simulate, fit, look, fit the logistic model, score; write ``structure.json``, ``report.md``.

    Parameters
    ----------
    stamps
        Folder of HST galaxies.

    Raises
    ------
    ConfigError
        If `preset` is unknown, `out` cannot be written, or no real galaxies are at hand.
    """
    grids, scored, *_ = begin_calibration(out, preset, SIZES, seed)
    real = {split: find_stamps(stamps, split) for split in ("train", "validation")}
    if not all(len(each) for each in real.values()):
        raise ConfigError("structure is learned from real galaxies; give --data FOLDER")
    train = make_examples(real["train"], preset, seed, grids)
    logistic, _ = fit_logistic(
        train.features, train.is_structure, np.zeros(len(train.features), dtype=bool)
    )
    held = make_examples(real["validation"], preset, seed + VALIDATION_SEEDS, scored)
    table, scores = score(logistic, held, StructureConfig())
    card = card_of(
        {
            "data": f"isolated HST galaxies, fields as {SURVEY} sees them in {','.join(BANDS)}, "
            "blends of Wang et al. (2022)",
            "preset": preset,
            "seed": seed,
            "sources": len(train.features),
            "structure": int(train.is_structure.sum()),
        },
        scores,
    )
    model = StructureModel(logistic, card)
    return write_trained(out, "structure.json", model, write_structure, to_markdown([table]))


def make_examples(stamps: Stamps, preset: str, seed: int, grids: int) -> StructureExamples:
    """Return the sources of so many grids and fields, and of blends."""
    *_, repeats, size, blends = SIZES[preset]
    survey = get_survey(SURVEY)
    plan = SinglesPlan(classes=(REAL, HUDF), repeats=repeats)
    parts: list[tuple[str, Array, Bools, NDArray[np.intp]]] = []
    for k in range(grids):
        scene = singles_scene(survey, BANDS, plan, seed + k, stamps)
        parts += [("singles", *each) for each in _look_at_scene(scene, seed + k, alone=True)]
        grid = Grid(1, size, 0, survey.pixel_scale)
        field = realistic_scene(survey, BANDS, grid, REALISTIC_DENSITY, seed + k, stamps)
        parts += [("fields", *each) for each in _look_at_scene(field, seed + k, alone=False)]
        log.info("grid and field %d of %d", k + 1, grids)
    parts += [("blends", *each) for each in _look_at_blends(blends, seed)]
    return StructureExamples(
        np.concatenate([features for _, features, _, _ in parts]),
        np.concatenate([truth for _, _, truth, _ in parts]),
        np.concatenate([np.full(len(truth), name) for name, _, truth, _ in parts]),
        np.concatenate([1000 * i + host for i, (_, _, _, host) in enumerate(parts)]),
    )


def _look_at_scene(
    scene: Scene, seed: int, alone: bool
) -> Iterator[tuple[Array, Bools, NDArray[np.intp]]]:
    """Yield features, truth and hosts of each footprint of a tile.

    Where galaxies are `alone`, all that is not at another one is structure; in a field what is at
    another one is a neighbor, and nothing is said of the rest.
    """
    with tempfile.TemporaryDirectory() as folder:
        detected = detect_scene(scene, seed, folder, CatalogConfig(bands=BANDS, survey=SURVEY))
    header = detected.task.cell.tile
    place, flux = truth_places(truth_table(scene), header.wcs, FLUX_BAND)
    deblender = JointDeblender()
    for blend in detected.blends:
        ((stamp, found, unit),) = deblender.fits(
            deblender_image(blend)[None],
            blend.variance[None],
            mask_for(deblender, blend.unusable[None]),
            psf_for(deblender, detected.psf, [blend]),
            header.pixel_scale,
        )
        fit, patches = found.fit, found.patches_of(stamp, deblender.config.blocks)
        seen = attachments(stamp, fit, patches, StructureConfig())
        corner = np.array([blend.box.x0, blend.box.y0])
        light = fit.total[BANDS.index(FLUX_BAND)] * unit[BANDS.index(FLUX_BAND)]
        neighbor = _is_neighbor(seen, fit.xy + corner, light, place, flux)
        chosen = np.ones(len(neighbor), dtype=bool) if alone else neighbor
        yield seen.features[chosen], ~neighbor[chosen], seen.host[chosen]


def _look_at_blends(n: int, seed: int) -> Iterator[tuple[Array, Bools, NDArray[np.intp]]]:
    """Yield the neighbors of blends of two and of three galaxies."""
    if not n:
        return
    drawn = wang2022_blends(n, seed)
    deblender = JointDeblender()
    scale = float(drawn["pixel_scale"])
    for k in (2, 3):
        truth = drawn[f"isolated{k}"].sum((2, 3, 4))
        found = deblender.fits(drawn[f"blend{k}"], None, None, drawn["psf"], scale)
        for (stamp, own, unit), place, flux in zip(found, drawn[f"xy{k}"], truth, strict=True):
            fit, patches = own.fit, own.patches_of(stamp, deblender.config.blocks)
            seen = attachments(stamp, fit, patches, StructureConfig())
            light = (fit.total * unit[:, None]).sum(0)
            neighbor = _is_neighbor(seen, fit.xy, light, place, flux)
            yield seen.features[neighbor], ~neighbor[neighbor], seen.host[neighbor]


def _is_neighbor(seen: Attachments, xy: Array, light: Array, place: Array, flux: Array) -> Bools:
    """Tell which sources lie at a true galaxy other than their host's and are as bright, ``(m,)``.

    Parameters
    ----------
    xy, light
        ``(k, 2)`` and ``(k,)`` of the fit's sources.
    place, flux
        ``(t, 2)`` and ``(t,)`` of the true ones.
    """
    if not len(seen.source):
        return np.zeros(0, dtype=bool)
    tree = KDTree(place)
    own = tree.query(xy[seen.host])[1]
    near = tree.query_ball_point(xy[seen.source], RADIUS)
    return np.array(
        [
            any(j != host and 1 / FACTOR < light[source] / flux[j] < FACTOR for j in found)
            for source, host, found in zip(seen.source, own, near, strict=True)
        ]
    )


def score(
    logistic: Logistic, held: StructureExamples, config: StructureConfig
) -> tuple[Table, dict[str, Any]]:
    """Return what the calibration makes of sources that it has not seen."""
    part, structure = is_structure(held.features, logistic, config), held.is_structure
    scores = {
        "sources that are structure": int(structure.sum()),
        "taken for it": int((part & structure).sum()),
        "galaxies with structure": len(set(held.galaxy[structure])),
        "still split": len(set(held.galaxy[structure & ~part])),
    }
    for name in ("fields", "blends"):
        neighbors = ~structure & (held.origin == name)
        scores[f"neighbors in {name}"] = int(neighbors.sum())
        scores[f"neighbors in {name} taken for structure"] = int((part & neighbors).sum())
    rows = [(name, str(value)) for name, value in scores.items()]
    return Table(("validation split", "value"), rows, "Structure"), scores
