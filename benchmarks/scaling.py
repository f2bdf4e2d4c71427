"""How the cost of the joint fit grows: ``python -m benchmarks.scaling [--sources 2 8 32 128]``.

Galaxies as dense as in a crowded field, all in one footprint, so that sources and pixels grow
together; then a pair in more and more bands.  CPU seconds of one thread, the best of some runs, and
the exponents of power laws through them, with own detection and with given positions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import galsim
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.circumstances import circumstances
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.find import find_all, fit_all_given
from raydeblend.evaluate.common.tables import markdown
from raydeblend.tile import FloatArray

SCALE = 0.2
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
STAMP = SEEING.drawImage(nx=41, ny=41, scale=SCALE).array
PIXELS_A_SOURCE = 546
"""As 120 galaxies on 256 x 256 pixels, which all touch."""
DRAWN = 64
"""Side in pixels on which a galaxy is drawn."""
BORDER = 12
REACHED = 5.0
"""Pixels within which a source is the true one's."""


@dataclass(frozen=True)
class Cost:
    """What a sky took: sources found, the share of the true ones among them, CPU seconds.

    `gaussians` is how often a Gaussian's value at a sample was asked for: `BlendFit.work` times the
    Gaussians of a source.  Those that do not reach a block of samples are counted though skipped.
    """

    found: int
    complete: float
    seconds: float
    gaussians: float


def main() -> None:
    """Print costs by sources and by bands, with exponents."""
    options = _options()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(circumstances(), flush=True)
    deblender = JointDeblender.load("cpu")
    _measure(deblender, *make_sky(2, 1), given=False, runs=1)
    for title, sizes, bands in (
        ("sources, three bands", options.sources, [3] * len(options.sources)),
        ("bands, two sources", [2] * len(options.bands), options.bands),
    ):
        swept = sizes if title.startswith("sources") else bands
        own, given = (
            [
                _measure(deblender, *make_sky(n, b), given=told, runs=options.runs)
                for n, b in zip(sizes, bands, strict=True)
            ]
            for told in (False, True)
        )
        print(_table(title, swept, own, given), flush=True)


def make_sky(n: int, bands: int, seed: int = 0) -> tuple[FloatArray, NDArray[np.float64]]:
    """Return an image ``(bands, y, x)`` of noise 1 with `n` galaxies, and their places ``(n, 2)``.

    Their half-light radii are 0.2 to 0.6 arcsec, their fluxes 500 to 5,000, as of `crowd`.
    """
    size = max(2 * round(np.sqrt(n * PIXELS_A_SOURCE) / 2), 2 * BORDER + 8)
    rng = np.random.default_rng([seed, n])
    xy = rng.uniform(BORDER, size - BORDER, (n, 2))
    light = galsim.Image(size, size, scale=SCALE, xmin=0, ymin=0)
    for x, y in xy:
        shape = galsim.Exponential(rng.uniform(0.2, 0.6), flux=10 ** rng.uniform(2.7, 3.7))
        galaxy = galsim.Convolve(shape.shear(g1=rng.uniform(-0.3, 0.3), g2=0), SEEING)
        corner = [round(v) - DRAWN // 2 for v in (x, y)]
        own = galsim.Image(DRAWN, DRAWN, scale=SCALE, xmin=corner[0], ymin=corner[1])
        galaxy.drawImage(own, center=galsim.PositionD(x, y))
        common = own.bounds & light.bounds
        light[common] += own[common]
    image = light.array + rng.normal(size=(bands, size, size))
    return image.astype(np.float32), xy


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return p of the power law, seconds ∝ sizeᵖ, that fits best."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _measure(
    deblender: JointDeblender,
    image: FloatArray,
    xy: NDArray[np.float64],
    *,
    given: bool,
    runs: int,
) -> Cost:
    """Return the least CPU time of some runs, in which stamps are made and sources found."""
    psf, best, fit = np.stack([STAMP] * len(image)), np.inf, None
    for _ in range(runs):
        start = time.process_time()
        stack = image[None], np.ones_like(image)[None], None, psf, SCALE
        stamps, _ = deblender.make_stamps(*stack)
        with torch.inference_mode():
            if given:
                (found,) = fit_all_given(stamps, [xy], deblender.given_settings)
            else:
                (found,) = find_all(stamps, deblender.settings)
        best, fit = min(best, time.process_time() - start), found.fit
    assert fit is not None
    distance = np.hypot(*(fit.xy[:, None] - xy).T) if len(fit.theta) else np.full((1, 1), np.inf)
    gaussians = fit.work * len(stamps[0].mixture.variance)
    return Cost(len(fit.theta), float((distance.min(0) < REACHED).mean()), best, gaussians)


def _table(title: str, swept: Sequence[int], own: Sequence[Cost], given: Sequence[Cost]) -> str:
    lines = [
        [
            str(size),
            str(one.found),
            f"{one.complete:.3f}",
            f"{1e3 * one.seconds:.1f}",
            f"{1e3 * other.seconds:.1f}",
            f"{one.gaussians / 1e6:.1f}",
            f"{1e9 * one.seconds / one.gaussians:.2f}",
        ]
        for size, one, other in zip(swept, own, given, strict=True)
    ]
    powers = [exponent(swept, [cost.seconds for cost in costs]) for costs in (own, given)]
    lines.append(["exponent", "", "", *(f"{power:.2f}" for power in powers), "", ""])
    header = [title, "found", "of the true", "own detection, CPU ms", "given positions, CPU ms"]
    header += ["million Gaussians (own)", "ns each, all told"]
    return markdown(header, lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--bands", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--runs", type=int, default=2, help="of each, the fastest counts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
