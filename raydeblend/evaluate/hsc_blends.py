"""Real HSC blends, of which nobody knows the truth: what is left when the models are taken off.

Scored inside the parent's footprint: weighted residual χ² per pixel and band, the models' flux
over the image's, and how many of the pipeline's peaks have a model.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.evaluate.tables import markdown
from raydeblend.tile import BoolArray, Deblended, Deblender, FloatArray

PROTOCOL = "hsc-blends"
PIXEL_SCALE = 0.168
"""Arcsec; that of HSC."""
BANDS = ("g", "r", "i", "z", "y")
MATCH_RADIUS = 3.0
"""Pixels between a peak and the model that stands for it."""
MIN_SIZE = 32
"""Smaller stamps are padded with unusable pixels: deblenders promise 24 pixels and more."""

Row = dict[str, str | int | float]
_KEYS = {"images", "weights", "peaks", "psfs"}


@dataclass(frozen=True)
class HscBlend:
    """One parent.

    Attributes
    ----------
    image, variance
        ``(bands, y, x)`` in the file's unit; the variance is 1 where unusable.
    unusable
        ``(bands, y, x)``: outside the footprint.
    peaks
        ``(k, 2)`` the pipeline's, (x, y).
    psf
        ``(bands, py, px)``.
    """

    name: str
    image: FloatArray
    variance: FloatArray
    unusable: BoolArray
    peaks: FloatArray
    psf: FloatArray


def read_hsc_blends(root: str, n: int | None = None) -> list[HscBlend]:
    """Read the first `n` npz files of a folder: ``images``, ``weights``, ``peaks``, ``psfs``.

    Raises
    ------
    ConfigError
        If there are none, or one lacks an array.
    """
    paths = sorted(path for path in storage.list_files(root) if path.endswith(".npz"))
    if not paths:
        raise ConfigError(f"there are no .npz files in {root}")
    return [_read(path) for path in paths[:n]]


def _read(path: str) -> HscBlend:
    with np.load(io.BytesIO(storage.read_bytes(path))) as arrays:
        if not set(arrays) >= _KEYS:
            raise ConfigError(f"{path} lacks {', '.join(sorted(_KEYS - set(arrays)))}")
        image, weight, peaks, psf = (
            arrays[name].astype(np.float32) for name in ("images", "weights", "peaks", "psfs")
        )
    pad = [(0, 0), *((0, max(0, MIN_SIZE - side)) for side in image.shape[1:])]
    image, weight = np.pad(image, pad), np.pad(weight, pad)
    good: BoolArray = np.isfinite(weight) & (weight > 0)
    variance = 1 / np.where(good, weight, 1)
    name = path.rsplit("/", 1)[-1].removesuffix(".npz")
    return HscBlend(name, image, variance.astype(np.float32), ~good, peaks, psf)


def evaluate_hsc_blends(
    deblenders: Mapping[str, Deblender], blends: Sequence[HscBlend]
) -> list[Row]:
    """Return one row per deblender and blend."""
    return [
        score_blend(name, deblender, blend)
        for name, deblender in deblenders.items()
        for blend in blends
    ]


def score_blend(name: str, deblender: Deblender, blend: HscBlend) -> Row:
    """Deblend one parent, without its peaks, and look at what is left."""
    start = time.perf_counter()
    result = deblender(
        blend.image[None],
        variance=blend.variance[None],
        mask=np.all(blend.unusable, axis=0)[np.newaxis],
        psf=blend.psf,
        bands=BANDS[: len(blend.image)],
        pixel_scale=PIXEL_SCALE,
    )
    seconds = time.perf_counter() - start
    used = ~blend.unusable
    total = result.models[0].sum(0)
    chi2 = ((blend.image - total) ** 2 / blend.variance)[used]
    return {
        "protocol": PROTOCOL,
        "deblender": name,
        "blend": blend.name,
        "chi2": float(chi2.mean(dtype=np.float64)),
        "flux_ratio": float(total[used].sum() / blend.image[used].sum()),
        "n_peaks": len(blend.peaks),
        "n_sources": int(result.n_sources[0]),
        "n_found": int(_found(blend, result).sum()),
        "seconds": seconds,
    }


def _found(blend: HscBlend, result: Deblended) -> NDArray[np.bool_]:
    """Tell which of the pipeline's peaks have a model near."""
    xy = result.xy[0, : result.n_sources[0]]
    if not len(xy):
        return np.zeros(len(blend.peaks), dtype=bool)
    distance = np.linalg.norm(blend.peaks[:, None] - xy, axis=2)
    return np.asarray(distance.min(axis=1) < MATCH_RADIUS)


def summary_table(rows: Sequence[Row]) -> str:
    """Return one line per deblender, as Markdown."""
    header = ["deblender", "blends", "χ² median", "90th", "flux ratio", "peaks", "found", "sources"]
    names = dict.fromkeys(str(row["deblender"]) for row in rows)
    lines = [_line(name, [row for row in rows if row["deblender"] == name]) for name in names]
    return markdown([*header, "s/blend"], lines)


def _line(name: str, rows: Sequence[Row]) -> list[str]:
    def column(key: str) -> NDArray[np.float64]:
        return np.array([row[key] for row in rows], dtype=np.float64)

    return [
        name,
        str(len(rows)),
        f"{np.median(column('chi2')):.3f}",
        f"{np.percentile(column('chi2'), 90):.1f}",
        f"{np.median(column('flux_ratio')):.3f}",
        f"{column('n_peaks').sum():.0f}",
        f"{column('n_found').sum():.0f}",
        f"{column('n_sources').sum():.0f}",
        f"{column('seconds').mean():.2f}",
    ]
