"""`raydeblend train structure`: which sources of a joint fit are structure of a galaxy.

Isolated real galaxies, and drawn ones with rings, stand on grids, and so do enlarged ones with
others about them: what is found beside the brightest source of one, and not at another, is its
structure.  Neighbors are those of fields of the realistic population, of close pairs, of the cores
of clusters and of large galaxies, of which a field has few bright ones, and of the blends of Wang
et al. (2022), deep and smooth, that lie at a true galaxy other than their host's.  The galaxies are
those of the training split; the scores are those of the validation split, which no fit has seen.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.tree import DecisionTreeRegressor

from raydeblend.calibrate.frame import Trained, begin_calibration, card_of, write_trained
from raydeblend.calibrate.ring_galaxies import RingGalaxies
from raydeblend.calibrate.scenes import detect_scene, truth_places
from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.attachments import Attachments, attachments
from raydeblend.deblend.joint.config import StructureConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.structure import StructureModel, is_structure, write_structure
from raydeblend.deblend.masks import mask_for
from raydeblend.deblend.trees import BoostedTrees
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.bootstrap import fraction_interval
from raydeblend.evaluate.common.tables import Table, to_markdown
from raydeblend.pipeline.batches import deblender_image, psf_for
from raydeblend.simulate.clusters import clusters_scene
from raydeblend.simulate.galaxies import HUDF, REAL
from raydeblend.simulate.large import large_scene
from raydeblend.simulate.neighbors import pairs_scene
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
"""Largest factor between its flux and the true one."""
FLUX_BAND = "i"
SIZES = {
    "tiny": (1, 1, 2, 2, 256, 20, 1, 1, 5),
    "small": (8, 1, 24, 12, 400, 200, 12, 9, 200),
    "paper": (16, 4, 24, 10, 1400, 500, 12, 9, 400),
}
"""By preset: grids to learn from and to score on, with rings, a field, pairs, clusters and large
galaxies each; real galaxies of each class and magnitude on one, and with rings; side of a field in
pixels; how many pairs, clusters and large galaxies; and blends of two and of three galaxies."""
ALONE = ("real", "rings", "clusters", "large")
"""Scenes in which all that is not at another source is structure."""
RING_PLAN = SinglesPlan(classes=("1",), r50=(0.4, 1.7))
"""Of the galaxies that get rings: smaller ones show nothing of them."""
WEIGHTS = {"pairs": 0.4, "clusters": 3.0}
"""Of the neighbors by origin, 1 otherwise: close pairs are rarer on the sky than here, and a
cluster's galaxies are many and bright."""
TREES, DEPTH, LEARNING_RATE, LEAF = 200, 3, 0.06, 10
"""How many and how deep, how much of each counts, and the fewest examples in a leaf."""
ASKED, DRAWN = 0.4, 0.5
"""Part of the features that a question may ask for, and of the examples that a tree sees."""
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
        ``(n,)`` of `real`, `rings`, `fields`, `pairs`, `clusters`, `large` and `blends`.
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
    """Simulate, fit, look, learn the trees, score; write ``structure.json``, ``report.md``.

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
    began = time.process_time()
    train = make_examples(real["train"], preset, seed, grids)
    held = make_examples(real["validation"], preset, seed + VALIDATION_SEEDS, scored)
    trees = fit_trees(train, seed)
    table, scores = score(trees, held, StructureConfig())
    card = card_of(
        {
            "data": "isolated HST galaxies, drawn ones with rings, fields, pairs, clusters and "
            f"enlarged HST galaxies as {SURVEY} sees them in {','.join(BANDS)}, blends of Wang et "
            "al. (2022)",
            "preset": preset,
            "seed": seed,
            "sources": len(train.features),
            "structure": int(train.is_structure.sum()),
            "cpu_seconds": round(time.process_time() - began),
        },
        scores,
    )
    model = StructureModel(trees, card)
    return write_trained(out, "structure.json", model, write_structure, to_markdown([table]))


def make_examples(stamps: Stamps, preset: str, seed: int, grids: int) -> StructureExamples:
    """Return the sources of the given numbers of grids, fields, pairs and blends."""
    parts: list[tuple[str, Array, Bools, NDArray[np.intp]]] = []
    for k in range(grids):
        for name, scene in draw_scenes(stamps, preset, seed + k).items():
            looked = _look_at_scene(scene, seed + k, alone=name in ALONE)
            parts += [(name, *each) for each in looked]
        log.info("scenes %d of %d", k + 1, grids)
    parts += [("blends", *each) for each in _look_at_blends(SIZES[preset][-1], seed)]
    return StructureExamples(
        np.concatenate([features for _, features, _, _ in parts]),
        np.concatenate([truth for _, _, truth, _ in parts]),
        np.concatenate([np.full(len(truth), name) for name, _, truth, _ in parts]),
        np.concatenate([1000 * i + host for i, (_, _, _, host) in enumerate(parts)]),
    )


def draw_scenes(stamps: Stamps, preset: str, seed: int) -> dict[str, Scene]:
    """Return a grid of real galaxies, one of rings, a field, pairs, clusters, and large ones."""
    *_, repeats, rings, size, pairs, clusters, large, _ = SIZES[preset]
    survey = get_survey(SURVEY)
    plan = SinglesPlan(classes=(REAL, HUDF), repeats=repeats)
    smooth = singles_scene(survey, BANDS, replace(RING_PLAN, repeats=rings), seed, stamps)
    ringed = RingGalaxies.draw(smooth.galaxies, np.random.default_rng(seed))
    grid = Grid(1, size, 0, survey.pixel_scale)
    return {
        "real": singles_scene(survey, BANDS, plan, seed, stamps),
        "rings": replace(smooth, galaxies=ringed),
        "fields": realistic_scene(survey, BANDS, grid, REALISTIC_DENSITY, seed, stamps),
        "pairs": pairs_scene(survey, BANDS, pairs, seed, stamps),
        "clusters": clusters_scene(survey, BANDS, clusters, seed, stamps),
        "large": large_scene(survey, BANDS, large, seed, stamps),
    }


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


def fit_trees(train: StructureExamples, seed: int) -> BoostedTrees:
    """Learn which examples are structure."""
    model = GradientBoostingClassifier(
        n_estimators=TREES,
        learning_rate=LEARNING_RATE,
        max_depth=DEPTH,
        min_samples_leaf=LEAF,
        max_features=ASKED,
        subsample=DRAWN,
        init="zero",
        random_state=seed,
    )
    weight = np.array([WEIGHTS.get(name, 1.0) for name in train.origin.tolist()])
    model.fit(train.features, train.is_structure, np.where(train.is_structure, 1.0, weight))
    return complete_trees(model)


def complete_trees(model: GradientBoostingClassifier) -> BoostedTrees:
    """Return the trees of a boosted model of two classes that begins at even odds."""
    trees = [_complete(tree, model.max_depth) for tree in model.estimators_[:, 0]]
    feature, threshold, value = (np.array(each) for each in zip(*trees, strict=True))
    return BoostedTrees(feature, threshold, model.learning_rate * value)


def _complete(
    tree: DecisionTreeRegressor, depth: int
) -> tuple[list[int], list[float], list[float]]:
    """Return questions and leaves; where a branch ends early, both answers lead to its leaf."""
    grown = tree.tree_
    level, asked = np.zeros(1, dtype=np.intp), []
    for _ in range(depth):
        asked += level.tolist()
        left, right = grown.children_left[level], grown.children_right[level]
        end = left < 0
        level = np.stack([np.where(end, level, left), np.where(end, level, right)], 1).ravel()
    feature = np.maximum(grown.feature[asked], 0)
    return feature.tolist(), grown.threshold[asked].tolist(), grown.value[level, 0, 0].tolist()


def score(
    trees: BoostedTrees, held: StructureExamples, config: StructureConfig
) -> tuple[Table, dict[str, Any]]:
    """Return what the calibration makes of sources that it has not seen."""
    part, structure = is_structure(held.features, trees, config), held.is_structure
    scores = {
        "sources that are structure": int(structure.sum()),
        "taken for it": int((part & structure).sum()),
    }
    rows = [(name, str(value), "") for name, value in scores.items()]
    for name in ("real", "rings"):
        hosts = np.unique(held.galaxy[structure & (held.origin == name)])
        split = np.isin(hosts, held.galaxy[structure & ~part])
        scores[f"{name} galaxies with structure"] = len(hosts)
        rows += [_row(scores, f"{name} galaxies still split", split)]
    parts = ~part[structure & (held.origin == "large")]
    scores["parts of large galaxies"] = len(parts)
    rows += [_row(scores, "parts of large galaxies left over", parts)]
    for name in ("fields", "pairs", "clusters", "large", "blends"):
        taken = part[~structure & (held.origin == name)]
        scores[f"neighbors in {name}"] = len(taken)
        rows += [_row(scores, f"neighbors in {name} taken for structure", taken)]
    return Table(("validation split", "value", "95 %"), rows, "Structure"), scores


def _row(scores: dict[str, Any], name: str, hits: Bools) -> tuple[str, str, str]:
    """Note how many are hit, and return a row of the table, with the part of all."""
    scores[name] = int(hits.sum())
    low, high = fraction_interval(hits)
    return name, f"{hits.sum()} of {len(hits)}", f"{100 * low:.1f}–{100 * high:.1f} %"
