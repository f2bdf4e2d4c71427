"""The detection stage beside SExtractor: ``python -m benchmarks.detect [--size 1024] [--n 5]``.

A simulated three-band HSC cell goes through the whole detection stage of the survey, without any
network (sky, detection image, peaks, footprints, stamps), and its bands' sum through one call of
`sep.extract` with a threshold of 1.5 sigma, sep's default deblending and no catalog or stamps
after it.  CPU seconds of one thread, the least of a few runs taken in turn; the bar is 3.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import sep

from benchmarks.circumstances import circumstances
from raydeblend.detect.background import subtract_background
from raydeblend.detect.footprints import DetectConfig, find_blends
from raydeblend.evaluate.common.tables import markdown
from raydeblend.fits.layouts import NATIVE, make_layout
from raydeblend.psf import constant
from raydeblend.simulate.rendering import MASK_PLANES, render_tile
from raydeblend.simulate.scene import Grid, make_scene
from raydeblend.simulate.tiles import DENSITY
from raydeblend.survey import get_survey, nominal_psf
from raydeblend.tile import Tile, TileHeader

BANDS = ("g", "r", "i")
BAR = 3.0
THRESHOLD = 1.5
SEED = 77
BAD = make_layout(NATIVE).mask.bad


def main() -> None:
    """Time both in turn and print the table."""
    options = _options()
    print(circumstances(), flush=True)
    tile = make_cell(options.size)
    steps: dict[str, Callable[[], object]] = {
        "background": lambda: subtract_background(tile),
        "find blends": lambda: find_blends(tile, DetectConfig()),
        "detection stage": lambda: detect(tile),
        "sep.extract": lambda: extract(tile),
    }
    seconds = {name: np.inf for name in steps}
    for _ in range(options.n):
        for name, step in steps.items():
            seconds[name] = min(seconds[name], _cpu_seconds(step))
    base = seconds["sep.extract"]
    lines = [[name, f"{1e3 * s:.0f}", f"{s / base:.2f}"] for name, s in seconds.items()]
    print(markdown(["step", "CPU ms", "over sep.extract"], lines))
    ratio = seconds["detection stage"] / base
    print(f"{len(detect(tile))} footprints, sep: {len(extract(tile))} objects")
    print(f"ratio {ratio:.2f}, bar {BAR:g}: {'met' if ratio <= BAR else 'MISSED'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="side of the cell in pixels")
    parser.add_argument("--n", type=int, default=5, help="runs of each, in turn")
    return parser.parse_args()


def make_cell(size: int) -> Tile:
    """Return a simulated HSC cell, as the survey's first stage reads it."""
    survey = get_survey("HSC")
    scene = make_scene(survey, BANDS, Grid(1, size, 0, survey.pixel_scale), DENSITY, SEED)
    pixels = render_tile(scene, 0, SEED)
    header = TileHeader("cell", BANDS, (None,) * 3, (size, size), "", survey.pixel_scale)
    bits = sum(1 << MASK_PLANES[plane] for plane in BAD if plane in MASK_PLANES)
    unusable = np.stack([(band.mask & bits) != 0 for band in pixels])
    image = np.stack([band.image for band in pixels])
    return Tile(
        header=header,
        box=header.box,
        image=np.where(unusable, 0, image).astype(np.float32),
        variance=np.stack([band.variance for band in pixels]).astype(np.float32),
        unusable=unusable,
        saturated=np.any([(band.mask >> MASK_PLANES["SAT"]) & 1 for band in pixels], axis=0),
        psf=constant([nominal_psf(survey, band) for band in BANDS]),
    )


def detect(tile: Tile) -> list[object]:
    """Do what the survey's detection does after reading."""
    return list(find_blends(subtract_background(tile), DetectConfig()))


def extract(tile: Tile) -> np.ndarray:
    """Call sep once on the sum of the bands."""
    image, variance = tile.image.sum(axis=0), tile.variance.sum(axis=0)
    return sep.extract(image, THRESHOLD, err=np.sqrt(variance), mask=tile.unusable.all(axis=0))


def _cpu_seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


if __name__ == "__main__":
    main()
