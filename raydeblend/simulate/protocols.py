"""Test sets drawn to a paper's protocol, in the layout that ``raydeblend evaluate`` reads."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.config import check_seed
from raydeblend.errors import ConfigError
from raydeblend.outputs import refuse_earlier
from raydeblend.simulate.galaxies import Galaxies, draw_galaxies, read_catsim
from raydeblend.simulate.isolated import render_galaxy
from raydeblend.survey import Survey, draw_psf, get_survey, psf_profile

PROTOCOLS = ("wang2022",)

# Wang et al. 2022, section II.D: LSST 10-year g r i, i < 25.3, 80 x 80 pixels; BlendingToolKit's
# default draws positions uniformly within a tenth of the 24 arcsec stamp around its center.
BANDS = ("g", "r", "i")
FAINT = 25.3
SIZE = 80
MAX_SHIFT_ARCSEC = 2.4


def wang2022_blends(n: int, seed: int, catalog: str | None = None) -> dict[str, NDArray[Any]]:
    """Draw `n` blends of two and `n` of three galaxies to Wang et al.'s protocol.

    Parameters
    ----------
    catalog
        CatSim table to draw galaxies from; by default the parametric population.

    Returns
    -------
    arrays
        ``blend<k> (n, 3, 80, 80)``, ``isolated<k> (n, k, 3, 80, 80)`` brightest first and
        ``xy<k> (n, k, 2)`` for k = 2, 3; ``psf``, ``bands``, ``pixel_scale``.  Unit: the sky
        sigma of each band.

    Raises
    ------
    ConfigError
        If `n` is not positive or the catalog cannot be used.
    """
    if n < 1:
        raise ConfigError(f"the number of blends must be at least 1, not {n}")
    check_seed(seed)
    rng = np.random.default_rng(seed)
    survey = get_survey("LSST")
    pool = (
        read_catsim(catalog, BANDS, FAINT) if catalog else draw_galaxies(5 * n, BANDS, rng, FAINT)
    )
    psf = [psf_profile(survey, band) for band in BANDS]
    arrays: dict[str, NDArray[Any]] = {
        "psf": np.stack([draw_psf(profile, survey.pixel_scale) for profile in psf]),
        "bands": np.array(BANDS),
        "pixel_scale": np.array(survey.pixel_scale),
    }
    for k in (2, 3):
        blends = [_draw_blend(pool, k, survey, psf, rng) for _ in range(n)]
        for name, values in zip(
            ("blend", "isolated", "xy"), zip(*blends, strict=True), strict=True
        ):
            arrays[f"{name}{k}"] = np.stack(values)
    return arrays


def _draw_blend(
    pool: Galaxies, k: int, survey: Survey, psf: list[Any], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    limit = MAX_SHIFT_ARCSEC / survey.pixel_scale
    shift = rng.uniform(-limit, limit, (k, 2))
    rows = rng.integers(0, len(pool), k)
    isolated = np.stack(
        [
            render_galaxy(pool, row, survey, psf, SIZE, angle, offset)
            for row, angle, offset in zip(rows, rng.uniform(0, 360, k), shift, strict=True)
        ]
    )
    order = np.argsort(-isolated.sum(axis=(1, 2, 3)))
    scene = isolated.sum(axis=0)
    sky = np.array([survey.band(band).sky_electrons for band in BANDS])[:, None, None]
    noise = rng.normal(size=scene.shape) * np.sqrt(1 + scene / np.sqrt(sky))
    blend = (scene + noise).astype(np.float32)
    # GalSim's offset is from the stamp's geometric center, (SIZE - 1) / 2 for 0-based pixels.
    xy = (shift + (SIZE - 1) / 2).astype(np.float32)
    return blend, isolated[order], xy[order]


def check_protocol(protocol: str) -> None:
    """Raise a `ConfigError` for a protocol that is not one of `PROTOCOLS`."""
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")


def write_blends(
    out: str,
    protocol: str,
    n: int,
    seed: int,
    catalog: str | None = None,
    overwrite: bool = False,
) -> str:
    """Draw a protocol's test set, write it as ``.npz``, local or on s3, and return its path.

    `out` is the file, or a directory for ``<protocol>.npz``.

    Raises
    ------
    ConfigError
        If the protocol is unknown, the file exists and is not to be replaced, or as
        `wang2022_blends` does.
    """
    check_protocol(protocol)
    path = out if out.endswith(".npz") else storage.join(out, f"{protocol}.npz")
    refuse_earlier(storage.parent(path), [path] if storage.exists(path) else [], overwrite)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = wang2022_blends(n, seed, catalog)
    np.savez_compressed(buffer, **arrays)
    storage.write_bytes(path, buffer.getvalue())
    return path
