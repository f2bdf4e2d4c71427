"""Galaxies as HST sees them, in units of the sky noise: what the GAN learns to draw."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.simulate.hst import HstStamps, load_hst
from raydeblend.simulate.sharp import BRIGHTEST, draw_sharp
from raydeblend.survey import NJY_ZERO_POINT

log = logging.getLogger(__name__)

SKY_SIGMA = 0.8
"""nJy per pixel of 0.06": CANDELS' 28.5 mag at 5 sigma (Hemmati et al. 2022, section 2) is 2.9 nJy
of noise, here over the 12.6 pixels of an aperture of 0.12" radius."""
REAL_ID = 10**12
"""Added to the identifiers of real galaxies, so that they differ from those of drawn ones."""
VALIDATION_MODULUS = 8
"""One galaxy in eight is never trained on."""


@dataclass(frozen=True)
class StampConfig:
    """A set of stamps.

    Attributes
    ----------
    bands, size
        HST's filters, and the side of the stamps in pixels of 0.06".
    n_galaxies, faint, seed
        Galaxies to draw, and their faintest i magnitude.
    data
        Folder of real stamps (see `load_hst`), or None.
    """

    bands: tuple[str, ...]
    size: int
    n_galaxies: int
    faint: float
    seed: int
    data: str | None


def make_stamps(root: str, config: StampConfig) -> str:
    """Write the stamps into `root`, unless they are there; return their path.

    Raises
    ------
    ConfigError
        If the folder of real stamps holds nothing usable.
    """
    words = json.dumps(asdict(config), sort_keys=True)
    name = f"stamps-{hashlib.sha256(words.encode()).hexdigest()[:12]}.npz"
    path = storage.join(root, name)
    if not storage.exists(path):
        images, galaxy = draw_stamps(config)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images, galaxy=galaxy)
        storage.write_bytes(path, buffer.getvalue())
    return path


def draw_stamps(config: StampConfig) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Return images ``(n, bands, y, x)`` in sky sigmas, noise included, and galaxies ``(n,)``.

    Real stamps keep the noise that they have; drawn galaxies get that of CANDELS.
    """
    rng = np.random.default_rng(config.seed)
    drawn = draw_sharp(config.n_galaxies, config.bands, rng, config.size, config.faint)
    noisy = drawn.images / SKY_SIGMA + rng.standard_normal(drawn.images.shape, dtype=np.float32)
    images, galaxy = [noisy], [drawn.galaxy]
    if config.data is not None:
        stamps = load_hst(config.data, config.bands, config.size)
        log.info("%d real galaxies in %s, %d skipped", len(stamps), config.data, stamps.skipped)
        images.append(_in_njy(stamps, rng) / SKY_SIGMA)
        galaxy.append(stamps.galaxy + REAL_ID)
    # float16 ends at 65504 sky sigmas, far beyond what the scaling can show.
    clipped = np.clip(np.concatenate(images), -6e4, 6e4).astype(np.float16)
    return clipped, np.concatenate(galaxy)


def _in_njy(stamps: HstStamps, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the stamps in nJy; those without zero point get a magnitude between 19 and 23."""
    magnitude = rng.uniform(BRIGHTEST, BRIGHTEST + 4, len(stamps))
    flux = np.where(stamps.calibrated, 1.0, 10 ** (0.4 * (NJY_ZERO_POINT - magnitude)))
    return np.asarray(stamps.images * flux[:, None, None, None], dtype=np.float32)


def describe(config: StampConfig) -> str:
    """Return what the stamps show, for the card."""
    drawn = f"{config.n_galaxies} drawn galaxies, {BRIGHTEST:g} < i < {config.faint:g}"
    real = f" and the real ones in {os.path.basename(config.data)}" if config.data else ""
    return f"HST {', '.join(config.bands)} at 0.06 arcsec: {drawn}{real}"


def held_out(galaxy: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which galaxies are kept for validation."""
    return np.asarray(galaxy % VALIDATION_MODULUS == 0)
