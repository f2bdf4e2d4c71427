"""The limit of work on a crowded footprint: ``python -m benchmarks.studies.crowd``.

One stamp of galaxies that all touch, deblended by the joint fit with its limit and with others;
CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import time

import galsim
import numpy as np
import torch

from benchmarks.circumstances import circumstances
from raydeblend.deblend.joint.config import JointConfig, LimitConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.evaluate.common.tables import markdown
from raydeblend.tile import FloatArray

SCALE = 0.2
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)


def main() -> None:
    """Print sources found, whether the limit was reached, and seconds."""
    options = _options()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(circumstances(), flush=True)
    image = crowd(options.n, options.size)[None]
    lines = [_line(limit, image) for limit in options.limits]
    print(f"{options.n} galaxies on {options.size}x{options.size} pixels, three bands")
    print(markdown(["limit of work", "sources", "limited", "CPU seconds"], lines))


def crowd(n: int, size: int, seed: int = 0) -> FloatArray:
    """Return an image ``(3, y, x)`` of noise 1 with `n` galaxies at random places."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(3, size, size))
    for x, y in rng.uniform(12, size - 12, (n, 2)):
        radius, flux = rng.uniform(0.2, 0.6), 10 ** rng.uniform(2.7, 3.7)
        galaxy = galsim.Exponential(half_light_radius=radius, flux=flux)
        galaxy = galsim.Convolve(galaxy.shear(g1=rng.uniform(-0.3, 0.3), g2=0), SEEING)
        stamp = galsim.Image(size, size, scale=SCALE, xmin=0, ymin=0)
        galaxy.drawImage(stamp, center=galsim.PositionD(x, y))
        image += stamp.array
    return image.astype(np.float32)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=120, help="galaxies")
    parser.add_argument("--size", type=int, default=256, help="side in pixels")
    parser.add_argument("--limits", type=float, nargs="+", default=[3e6, LimitConfig.most_work])
    return parser.parse_args()


def _line(limit: float, image: FloatArray) -> list[str]:
    start = time.process_time()
    deblender = JointDeblender(config=JointConfig(limits=LimitConfig(most_work=limit)))
    result = deblender(image, variance=np.ones_like(image), psf=PSF, pixel_scale=SCALE)
    seconds = time.process_time() - start
    limited = "yes" if result.extra["limited"][0] else "no"
    return [f"{limit:.0e}", str(result.n_sources[0]), limited, f"{seconds:.1f}"]


if __name__ == "__main__":
    main()
