"""What taking suspected blends apart does: ``python -m benchmarks.studies.suspects``.

Fresh simulated HSC tiles, as the sky has them and with more close pairs, are detected and deblended
as a catalog's cells are; then the suspects are judged and those above the threshold fitted again.
Completeness is of the true sources brighter than 25 in i, purity of all catalog sources; CPU
seconds are of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np
import torch

from benchmarks.circumstances import circumstances
from raydeblend.calibrate.scenes import truth_places
from raydeblend.calibrate.suspects import BANDS, simulate_separated, truth_of
from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.detect.matching import match_sky
from raydeblend.evaluate.common.calibration import calibration
from raydeblend.evaluate.common.tables import markdown
from raydeblend.evaluate.survey.unrecognized import MATCH_RADIUS
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent
from raydeblend.pipeline.deblending import load_suspects

SEED = 3000
FAINT = 25.0


def main() -> None:
    """Run both kinds of tiles and print the table."""
    options = _options()
    torch.set_num_threads(1)
    print(circumstances(), flush=True)
    threshold = CatalogConfig(bands=BANDS).suspect_threshold
    stage = load_suspects(JointDeblender.load("cpu"), threshold)
    assert stage is not None, "no calibration is shipped"
    lines = []
    for paired in (False, True):
        for seed in range(SEED, SEED + options.n):
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                separated, truth = simulate_separated(folder, seed, options.size, paired)
                deblending = time.process_time() - start
            start = time.process_time()
            parts = stage(separated.detected, separated.parts)
            seconds = time.process_time() - start
            name = f"{'more pairs' if paired else 'sky'} {seed}"
            for when, after in (("before", separated.parts), ("after", parts)):
                lines.append([name, when, *_scores(separated, after, truth)])
            judged = after_judgment(separated, parts, truth)
            print(
                f"{name}: {seconds:.1f} s after {deblending:.1f} s of tile and deblending; {judged}"
            )
    print(markdown(["tile", "suspects", "sources", "complete", "pure"], lines))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1, help="tiles of each kind")
    parser.add_argument("--size", type=int, default=512, help="side of a tile in pixels")
    return parser.parse_args()


def _places(separated: DeblendedCell, parts: tuple[DeblendedParent, ...]) -> np.ndarray:
    pairs = zip(separated.detected.blends, parts, strict=True)
    return np.concatenate([part.xy + np.array([b.box.x0, b.box.y0]) for b, part in pairs])


def _scores(separated: DeblendedCell, parts: tuple[DeblendedParent, ...], truth) -> list[str]:
    header = separated.detected.task.cell.tile
    xy = _places(separated, parts) * header.pixel_scale
    places, flux = truth_places(truth, header.wcs, BANDS[-1])
    match = match_sky(places * header.pixel_scale, flux, xy, MATCH_RADIUS)
    # Of footprints that were taken up only: those of many peaks are left out of this run.
    near = np.linalg.norm(places[:, None] * header.pixel_scale - xy, axis=2).min(axis=1) < 1.0
    wanted = near & (truth["magnitude"].to_numpy() < FAINT)
    complete, pure = np.mean(match[wanted] >= 0), np.sum(match >= 0) / len(xy)
    return [str(len(xy)), f"{complete:.2%} of {wanted.sum()}", f"{pure:.2%}"]


def after_judgment(separated: DeblendedCell, parts: tuple[DeblendedParent, ...], truth) -> str:
    """Say how well the probabilities of the parts as they are now keep what they say."""
    header = separated.detected.task.cell.tile
    p = np.concatenate(
        [
            np.full(len(x.xy), np.nan) if x.p_unrecognized is None else x.p_unrecognized
            for x in parts
        ]
    )
    xy = _places(separated, parts)
    blended = truth_of(xy, truth, header.wcs, BANDS[-1], header.pixel_scale)
    score = calibration(p, blended)
    return f"{score.positives} of {score.n} still blended, ECE {score.ece:.4f}, AUC {score.auc:.3f}"


if __name__ == "__main__":
    main()
