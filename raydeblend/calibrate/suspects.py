"""`raydeblend train suspect`: the calibration of `p_unrecognized_blend`, on simulated tiles.

Tiles are simulated, detected and deblended as in a catalog, and matched with their truth.  Half of
them have more close pairs than the sky, to learn from; they have an offset of their own, so that
the others keep the natural rate of blends.  Only probabilities of tiles that a fit has not seen are
scored.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.calibrate.frame import (
    Trained,
    begin_calibration,
    card_of,
    rounded,
    write_trained,
)
from raydeblend.calibrate.logistic_fit import RIDGE, fit_logistic
from raydeblend.calibrate.scenes import PAIRS, detect_scene, sky_scene, truth_places
from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.logistic import probability
from raydeblend.deblend.unrecognized.model import SuspectModel, write_model
from raydeblend.deblend.unrecognized.networks import NETWORK_FEATURES, FeatureNetworks
from raydeblend.deblend.unrecognized.statistics import (
    FEATURES,
    Views,
    features,
    join,
    may_be_doubtful,
)
from raydeblend.evaluate.common.calibration import (
    calibration,
    calibration_figure,
    calibration_table,
    purity_rows,
    purity_table,
)
from raydeblend.evaluate.common.tables import Table, to_markdown
from raydeblend.evaluate.survey.unrecognized import FLUX_RATIO, RADIUS, unrecognized_blends
from raydeblend.pipeline.deblended import DeblendedCell
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.suspects import view_part
from raydeblend.simulate.scene import truth_table
from raydeblend.simulate.tiles import REALISTIC_DENSITY

Array = NDArray[np.float64]
log = logging.getLogger(__name__)

SURVEY, BANDS = "HSC", ("g", "r", "i")
MOST_PEAKS = 2
"""Footprints with more peaks are not used: they take most of the time and hold few sources."""
FOLDS = 5
CHEAP_DOUBT = 0.3
"""Probability by the cheap statistics above which the networks are run, which then decide whether
the footprint is deblended again.  Above 0.02 they gain nothing (docs/research/speed.md)."""
MIN_DOUBTFUL = 10
"""Fewest sources in doubt to which the second step is fitted."""
SEEING = (1.3, 2.6)
"""Range of PSF widths in pixels that the networks were trained on, with a small margin."""
SIZES = {"tiny": (4, 256), "small": (16, 768), "paper": (64, 1024)}
"""Number of tiles, half of them with pairs, and their side in pixels, by preset."""


@dataclass(frozen=True)
class Examples:
    """The sources of one tile.

    Attributes
    ----------
    statistics
        ``(n, 9)`` the cheap ones, by `FEATURES`.
    network_features
        ``(n, 5)`` by `NETWORK_FEATURES`; NaN where the networks were not run.
    blended
        ``(n,)`` the truth.
    paired
        Whether the tile has more close pairs than the sky.
    """

    statistics: Array
    network_features: Array
    blended: NDArray[np.bool_]
    paired: bool


def train_suspects(out: str, preset: str = "small", seed: int = 0) -> Trained[SuspectModel]:
    """Simulate, catalog, fit, score; write ``suspect.json``, ``report.md`` and ``suspect.png``.

    Tiles that an earlier call left in `out` are reused.

    Raises
    ------
    ConfigError
        If `preset` is unknown or `out` cannot be written.
    """
    n_tiles, size = begin_calibration(out, preset, SIZES, seed)
    seeds = {True: seed + 1000, False: seed + 2000}
    examples = [
        tile_examples(out, seeds[paired] + k, size, paired)
        for k in range(n_tiles // 2)
        for paired in (True, False)
    ]
    training = {"tiles": n_tiles, "size": size, "seed": seed, "preset": preset, "pairs": PAIRS}
    return fit_and_report(out, examples, training)


def tile_examples(out: str, seed: int, size: int, paired: bool) -> Examples:
    """Return the examples of one tile, made unless they are in `out` already."""
    path = storage.join(out, "examples", f"{size}_{'pairs' if paired else 'sky'}_{seed}.npz")
    if storage.exists(path):
        with np.load(io.BytesIO(storage.read_bytes(path))) as arrays:
            return Examples(arrays["seen"], arrays["said"], arrays["blended"], paired)
    with tempfile.TemporaryDirectory() as folder:
        separated, truth = simulate_separated(folder, seed, size, paired)
    examples = examples_of(separated, truth, paired, FeatureNetworks.load())
    buffer = io.BytesIO()
    # The names that earlier versions gave the arrays.
    arrays = {"seen": examples.statistics, "said": examples.network_features}
    np.savez(buffer, **arrays, blended=examples.blended)
    storage.write_bytes(path, buffer.getvalue())
    log.info("tile %d: %d sources, %d blended", seed, len(examples.blended), examples.blended.sum())
    return examples


def simulate_separated(
    folder: str, seed: int, size: int, paired: bool
) -> tuple[DeblendedCell, pa.Table]:
    """Simulate a tile, and deblend it as one cell of a catalog."""
    scene = sky_scene(SURVEY, BANDS, size, seed, paired)
    config = CatalogConfig(bands=BANDS, survey=SURVEY)
    detected = detect_scene(scene, seed, folder, config)
    few = tuple(blend for blend in detected.blends if len(blend.xy) <= MOST_PEAKS)
    deblend = DeblendCell(config, JointDeblender.load())
    deblend.suspects = None
    return deblend(replace(detected, blends=few)), truth_table(scene)


def examples_of(
    separated: DeblendedCell, truth: pa.Table, paired: bool, networks: FeatureNetworks
) -> Examples:
    """Return the statistics of a cell's sources, and the truth."""
    detected = separated.detected
    header = detected.task.cell.tile
    pairs = [
        (blend, part)
        for blend, part in zip(detected.blends, separated.parts, strict=True)
        if part.deblender == JointDeblender.name and len(part.models)
    ]
    views: Views = join([view_part(*pair) for pair in pairs])
    statistics = features(views, detected.psf.at(0, 0), header.pixel_scale)
    xy = np.concatenate([part.xy + np.array([b.box.x0, b.box.y0]) for b, part in pairs])
    blended = truth_of(xy, truth, header.wcs, header.bands[-1], header.pixel_scale)
    # The networks are only run where the cheap statistics may be in doubt.
    doubtful = np.flatnonzero(may_be_doubtful(statistics))
    of_networks = np.full((len(statistics), len(NETWORK_FEATURES)), np.nan)
    run = networks(views.take(doubtful), header.bands, header.pixel_scale)
    of_networks[doubtful] = run.features
    return Examples(statistics, of_networks, blended, paired)


def truth_of(
    xy: Array, truth: pa.Table, wcs: str, band: str, pixel_scale: float
) -> NDArray[np.bool_]:
    """Tell which sources at pixels ``(n, 2)`` (x, y) are unrecognized blends."""
    place, flux = truth_places(truth, wcs, band)
    return unrecognized_blends(xy * pixel_scale, place * pixel_scale, flux)


def fit_and_report(
    out: str, examples: Sequence[Examples], training: dict[str, Any]
) -> Trained[SuspectModel]:
    """Fit on all tiles, score each tile by a fit without it, and write both."""
    model = fit_model(examples)
    p, truth, paired = held_out(examples)
    report, scores = _report(p, truth, paired)
    model = replace(model, card=card_of(_training(training, examples), scores))
    samples = {"sky": (p[~paired], truth[~paired]), "more pairs": (p[paired], truth[paired])}
    title = "p_unrecognized_blend on simulated HSC tiles, each by a fit that has not seen it"
    storage.write_bytes(storage.join(out, "suspect.png"), calibration_figure(samples, title))
    return write_trained(out, "suspect.json", model, write_model, report)


def _training(training: dict[str, Any], examples: Sequence[Examples]) -> dict[str, Any]:
    return {
        "data": f"simulated {SURVEY} tiles in {','.join(BANDS)} of the realistic population, "
        f"{REALISTIC_DENSITY:g} galaxies per arcmin2; "
        f"another true source within {RADIUS:g} arcsec of at least {FLUX_RATIO:g} of the flux",
        **training,
        "sources": sum(len(each.blended) for each in examples),
        "blended": int(sum(each.blended.sum() for each in examples)),
        "features": [*FEATURES, "ln odds of these", *NETWORK_FEATURES],
        "ridge": RIDGE,
    }


def _report(
    p: Array, truth: NDArray[np.bool_], paired: NDArray[np.bool_]
) -> tuple[str, dict[str, Any]]:
    sections: list[Table] = []
    scores: dict[str, Any] = {}
    for name, chosen in (("sky", ~paired), ("more pairs", paired)):
        score = calibration(p[chosen], truth[chosen])
        rows = purity_rows(p[chosen], truth[chosen])
        sections += [replace(calibration_table(score), title=name)]
        sections += [replace(purity_table(rows), title=name)]
        scores[f"{name}, held-out tiles"] = rounded(score, "blended")
    return to_markdown(sections), scores


def held_out(examples: Sequence[Examples]) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return, for every source, p, the truth and whether its tile has more pairs.

    Each p comes from a fit without its tile, with the offset if the tile has more pairs.
    """
    fold = np.arange(len(examples)) // 2 % min(FOLDS, max(len(examples) // 2, 2))
    p = []
    for k, each in enumerate(examples):
        rest = [other for j, other in enumerate(examples) if fold[j] != fold[k]]
        p.append(predict(fit_model(rest), each, offset_of(rest) if each.paired else 0.0))
    return np.concatenate(p), *_labels(examples)


def predict(model: SuspectModel, examples: Examples, offset: float = 0.0) -> Array:
    """Return the probabilities ``(n,)`` of both steps together, with `offset` on ln odds."""
    logit = model.cheap.logit(examples.statistics)
    doubt = (probability(logit) >= model.doubt) & np.isfinite(examples.network_features[:, 0])
    if doubt.any() and model.full is not None:
        both = np.column_stack([logit[doubt], examples.network_features[doubt]])
        logit[doubt] = model.full.logit(both)
    return probability(logit + offset)


def fit_model(examples: Sequence[Examples]) -> SuspectModel:
    """Fit both steps; the second where the first leaves doubt."""
    statistics = np.concatenate([each.statistics for each in examples])
    of_networks = np.concatenate([each.network_features for each in examples])
    truth, paired = _labels(examples)
    cheap, _ = fit_logistic(statistics, truth, paired)
    logit = cheap.logit(statistics)
    doubt = (probability(logit) >= CHEAP_DOUBT) & np.isfinite(of_networks[:, 0])
    full = None
    if doubt.sum() >= MIN_DOUBTFUL:
        both = np.column_stack([logit, of_networks])[doubt]
        full, _ = fit_logistic(both, truth[doubt], paired[doubt])
    return SuspectModel(JointDeblender.name, cheap, full, CHEAP_DOUBT, SEEING, {})


def offset_of(examples: Sequence[Examples]) -> float:
    """Return the offset of the ln odds in tiles with more pairs."""
    statistics = np.concatenate([each.statistics for each in examples])
    return fit_logistic(statistics, *_labels(examples))[1]


def _labels(examples: Sequence[Examples]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the truth of every source, and whether its tile has more pairs."""
    truth = np.concatenate([each.blended for each in examples])
    paired = np.concatenate([np.full(len(each.blended), each.paired) for each in examples])
    return truth, paired
