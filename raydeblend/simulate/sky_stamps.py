"""Galaxies as HST sees them, in units of the sky noise: what the GAN learns to draw.

All images are under the same sky.  Drawn galaxies have none of their own, so they get all of it.
Real ones are dimmed to the magnitudes of drawn ones (`raydeblend.simulate.sharp.real_sharp`),
which makes their own noise fainter than the sky's, and get what is missing.  As they are, they
would be no training sample: some end in a sharp edge before black, some are ten times noisier
than others, and a discriminator looks at nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.simulate.sharp import BRIGHTEST, SharpGalaxies, draw_sharp, join, real_sharp

log = logging.getLogger(__name__)

Part = Literal["test", "validation", "training"]

SKY_SIGMA = 0.8
"""nJy per pixel of 0.06": CANDELS' 28.5 mag at 5 sigma (Hemmati et al. 2022, section 2) is 2.9 nJy
of noise, here over the 12.6 pixels of an aperture of 0.12" radius."""
DRAWN_PER_REAL = 3
"""Drawn galaxies for each image of a real one."""
SPLIT = 8
"""Of this many galaxies, one is for tests and one for validation, never for training."""
EDGE = 6
"""Width in pixels of the frame in which a stamp's own noise is measured."""
BRIGHTEST_PIXEL = 6e4
"""Sky sigmas; float16 ends at 65504, far beyond what the scaling can show."""


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
        Folder of real stamps (see `raydeblend.simulate.hst`), or None.
    """

    bands: tuple[str, ...]
    size: int
    n_galaxies: int
    faint: float
    seed: int
    data: str | None

    @property
    def n_real(self) -> int:
        """Images of real galaxies, where there is `data`."""
        return self.n_galaxies // DRAWN_PER_REAL


@dataclass(frozen=True)
class SkyStamps:
    """Images of single galaxies before the sky is added.

    Attributes
    ----------
    images
        ``(n, bands, y, x)`` in sky sigmas.
    noise
        ``(n,)`` sky sigmas of the noise that they already have, at most 1.
    galaxy
        ``(n,)`` identifier; several images may be of one galaxy.
    """

    images: NDArray[np.float16]
    noise: NDArray[np.float32]
    galaxy: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.galaxy)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> SkyStamps:
        """Return the chosen images."""
        return SkyStamps(self.images[rows], self.noise[rows], self.galaxy[rows])

    def part(self, part: Part) -> SkyStamps:
        """Return the images of the galaxies of one part of the split."""
        remainder = self.galaxy % SPLIT
        return self.take(
            {"test": remainder == 0, "validation": remainder == 1, "training": remainder > 1}[part]
        )

    @property
    def missing_noise(self) -> NDArray[np.float32]:
        """``(n,)`` sigma of the noise that makes an image's own into 1."""
        return np.asarray(np.sqrt(1 - self.noise**2))

    def under_sky(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return images with noise of 1 sky sigma."""
        noise = rng.standard_normal(self.images.shape, dtype=np.float32)
        return np.asarray(self.images + self.missing_noise[:, None, None, None] * noise)


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
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(draw_stamps(config)))
        storage.write_bytes(path, buffer.getvalue())
    return path


def read_stamps(path: str) -> SkyStamps:
    """Read what `make_stamps` wrote."""
    with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as arrays:
        return SkyStamps(arrays["images"], arrays["noise"], arrays["galaxy"])


def draw_stamps(config: StampConfig) -> SkyStamps:
    """Draw galaxies and, if there is a folder of them, add real ones."""
    rng = np.random.default_rng(config.seed)
    galaxies = draw_sharp(config.n_galaxies, config.bands, rng, config.size, config.faint)
    noise = np.zeros(config.n_galaxies, dtype=np.float32)
    if config.data is not None:
        real = real_sharp(config.n_real, config.data, config.bands, rng, config.size, config.faint)
        log.info("%d images of %d real galaxies", config.n_real, len(set(real.galaxy.tolist())))
        galaxies = join([galaxies, real])
        noise = np.concatenate([noise, own_noise(real)])
    images = np.clip(galaxies.images / np.float32(SKY_SIGMA), -BRIGHTEST_PIXEL, BRIGHTEST_PIXEL)
    return SkyStamps(images.astype(np.float16), noise, galaxies.galaxy)


def own_noise(galaxies: SharpGalaxies) -> NDArray[np.float32]:
    """Return the noise of the first band near the edges ``(n,)`` in sky sigmas, at most 1."""
    image = galaxies.images[:, 0].astype(np.float32) / SKY_SIGMA
    inside = np.zeros(image.shape[1:], dtype=bool)
    inside[EDGE:-EDGE, EDGE:-EDGE] = True
    edge = image[:, ~inside]
    deviation = np.abs(edge - np.median(edge, axis=1, keepdims=True))
    return np.asarray(np.minimum(1.4826 * np.median(deviation, axis=1), 1), dtype=np.float32)


def describe(config: StampConfig) -> str:
    """Return what the stamps show, for the card."""
    drawn = f"{config.n_galaxies} drawn galaxies, {BRIGHTEST:g} < i < {config.faint:g}"
    real = f" and the real ones in {os.path.basename(config.data)}" if config.data else ""
    return f"HST {', '.join(config.bands)} at 0.06 arcsec: {drawn}{real}"
