"""Why close pairs have one row: ``python -m benchmarks.studies.pairs [--pairs 130] [--data HST]``.

Pairs of the validation split are detected and fitted as in a catalog.  Those that end as one row
were fitted as several and put together as structure; or as one, though two sources at the true
places would gain what they must; or as one, which is all that the pixels tell.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.circumstances import circumstances
from raydeblend.calibrate.scenes import detect_scene
from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.evidence import least_gain
from raydeblend.deblend.joint.find import fit_all_given
from raydeblend.deblend.joint.fitting import render
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.joint.structure import galaxies_of, shipped_structure
from raydeblend.deblend.masks import mask_for
from raydeblend.evaluate.common.tables import markdown
from raydeblend.evaluate.survey.rows import PAIR_SEPARATIONS
from raydeblend.pipeline.batches import deblender_image, psf_for
from raydeblend.pipeline.detected import Detected
from raydeblend.simulate.neighbors import pairs_scene
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.survey import get_survey

SURVEY, BANDS = "HSC", ("g", "r", "i")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """What became of a pair.

    Attributes
    ----------
    distance
        Arcsec.
    gain, least
        What two sources at the true places gain over one, in ln posterior, and what they must.
    fitted, rows
        Sources of the fit, and of these what is left when structure is put together.
    """

    distance: float
    gain: float
    least: float
    fitted: int
    rows: int


def pairs_of(detected: Detected, xy: Array) -> Iterator[Pair]:
    """Yield the pairs ``(n, 2, 2)`` (x, y) that have a footprint to themselves."""
    deblender = JointDeblender.load("cpu")
    scale = detected.task.cell.tile.pixel_scale
    for blend in detected.blends:
        inside = (xy >= (blend.box.x0, blend.box.y0)) & (xy < (blend.box.x1, blend.box.y1))
        (own,) = np.nonzero(inside.all((1, 2)))
        if len(own) != 1:
            continue
        ((stamp, found, _),) = deblender.fits(
            deblender_image(blend)[None],
            blend.variance[None],
            mask_for(deblender, blend.unusable[None]),
            psf_for(deblender, detected.psf, [blend]),
            scale,
        )
        patches = found.patches_of(stamp, deblender.config.blocks)
        model, config = shipped_structure().trees, deblender.config.structure
        galaxy = galaxies_of(stamp, found.fit, patches, model, config)
        places = xy[own[0]] - np.array([blend.box.x0, blend.box.y0])
        distance = scale * float(np.hypot(*(places[1] - places[0])))
        gains = _gain(deblender, stamp, places)
        yield Pair(distance, *gains, len(galaxy), len(np.unique(galaxy)))


def _gain(deblender: JointDeblender, stamp: Stamp, places: Array) -> tuple[float, float]:
    """Return what a second source gains, begun where it is, and what it must gain."""
    settings = deblender.settings
    (held,) = fit_all_given([stamp], [places], deblender.given_settings)
    (two,) = fit_all_given([stamp], [held.fit.xy], settings)
    (one,) = fit_all_given([stamp], [places[:1]], settings)
    first = render(stamp, held.fit.without(1), deblender.device)
    least = least_gain(stamp, first, held.fit.xy[1], deblender.config.search)
    return one.fit.objective - two.fit.objective, least


def row(name: str, pairs: list[Pair]) -> list[str]:
    """Return a row of the table."""
    single = [pair for pair in pairs if pair.fitted == 1]
    counts = (
        len(pairs),
        sum(pair.rows > 1 for pair in pairs),
        sum(pair.rows == 1 < pair.fitted for pair in pairs),
        sum(pair.gain > pair.least for pair in single),
        sum(pair.gain <= pair.least for pair in single),
    )
    return [name, *map(str, counts)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=130)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--data", default=None, help="folder of HST galaxies")
    arguments = parser.parse_args()
    stamps = find_stamps(arguments.data, "validation")
    scene = pairs_scene(get_survey(SURVEY), BANDS, arguments.pairs, arguments.seed, stamps)
    with tempfile.TemporaryDirectory() as folder:
        config = CatalogConfig(bands=BANDS, survey=SURVEY)
        detected = detect_scene(scene, arguments.seed, folder, config)
    found = list(pairs_of(detected, scene.xy.reshape(-1, 2, 2)))
    table = [
        row(f'{low:g}–{high:g}"', [pair for pair in found if low <= pair.distance < high])
        for low, high in itertools.pairwise(PAIR_SEPARATIONS)
    ]
    print(circumstances())
    header = ["distance", "pairs", "several rows", "put together", "not found", "gain too little"]
    print(markdown(header, table))


if __name__ == "__main__":
    main()
