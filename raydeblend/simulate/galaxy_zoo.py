"""Galaxy Zoo pictures and the blends that Reiman & Göhre (2019, section 2.3) make of them.

SDSS color JPEGs as the Kaggle Galaxy Zoo challenge hands them out, one file a galaxy, the file's
name its number.  The blends are made on the training device, so this module needs torch.
"""

from __future__ import annotations

import io
import logging
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.tile import FloatArray

log = logging.getLogger(__name__)

SIDES = (423, 424)
"""Sides of the pictures in pixels: 424 says the paper, and as many copies have 423."""
CROP = 240
SIZE = 80
BANDS = ("g", "r", "i")
"""What blue, green and red show; bluest first here, as everywhere in this package."""
SUFFIXES = (".jpg", ".jpeg")
SPLIT_MODULUS = 8

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class ZooImages:
    """Pictures of galaxies, each at the center of its own.

    Attributes
    ----------
    images
        ``(n, 3, 80, 80)`` in g, r, i (blue, green, red), 0 to 255.
    names
        The files' names without the suffix: SDSS objID, or Kaggle's number.
    skipped
        Files that could not be read or had another size.
    """

    images: NDArray[np.uint8]
    names: tuple[str, ...]
    skipped: int


@dataclass(frozen=True)
class ZooRecipe:
    """How the second galaxy is changed before it is laid over the first.

    Attributes
    ----------
    displacement
        Smallest and largest shift along each axis in pixels.  The paper prints no sign; either
        is as likely here, which its flips amount to.
    log_scale
        Natural logarithms of the smallest and the largest factor on its size.
    """

    displacement: tuple[float, float] = (10.0, 50.0)
    log_scale: tuple[float, float] = (-1.0, 0.5)


@dataclass(frozen=True)
class ZooBlends:
    """A batch of blends with their truth.

    Attributes
    ----------
    blend
        ``(n, 3, y, x)`` in [0, 1].
    galaxies
        ``(n, 2, 3, y, x)`` in [-1, 1]: the central one, then the other.
    xy
        ``(n, 2, 2)`` their positions; the second may lie outside the picture.
    """

    blend: Tensor
    galaxies: Tensor
    xy: Tensor


def split_of(name: str) -> Split:
    """Return which part of the data a galaxy belongs to, from its name alone.

    One in eight is kept for validation and another for the test, by the CRC-32 of the name: the
    lowest digits of an SDSS objID number the objects of one field and are not even.
    """
    part = zlib.crc32(name.encode()) % SPLIT_MODULUS
    return "validation" if part == 0 else "test" if part == 1 else "train"


def list_pictures(root: str, splits: Sequence[Split]) -> list[str]:
    """List the JPEG files below `root`, at any depth, of the galaxies of some splits.

    Raises
    ------
    ConfigError
        If there are none.
    """
    files = [path for path in storage.list_files(root) if path.lower().endswith(SUFFIXES)]
    if not files:
        raise ConfigError(f"{root} holds no .jpg or .jpeg files of Galaxy Zoo")
    chosen = [path for path in files if split_of(_name(path)) in splits]
    if not chosen:
        raise ConfigError(
            f"none of the {len(files)} pictures in {root} is for {' or '.join(splits)}"
        )
    return chosen


def read_galaxy_zoo(root: str, *splits: Split, limit: int | None = None) -> ZooImages:
    """Read the pictures of some splits: center crop of 240 pixels, bicubic to 80 (section 2.3).

    Files that are damaged or of another size are skipped and counted, with a warning.

    Parameters
    ----------
    limit
        Read at most this many files.

    Raises
    ------
    ConfigError
        If nothing is left.
    """
    files = list_pictures(root, splits)[:limit]
    read = {_name(path): _read_picture(path) for path in files}
    good = {name: image for name, image in read.items() if image is not None}
    skipped = len(files) - len(good)
    if skipped:
        log.warning(
            "%s: %d of %d pictures are unusable and were skipped", root, skipped, len(files)
        )
    if len(good) < 2:
        raise ConfigError(
            f"{root} has {len(good)} usable pictures of {len(files)}, a blend needs 2: they must "
            f"be RGB JPEGs of {SIDES[0]} or {SIDES[1]} pixels on a side"
        )
    return ZooImages(np.stack(list(good.values())), tuple(good), skipped)


def _name(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _read_picture(path: str) -> NDArray[np.uint8] | None:
    try:
        with Image.open(io.BytesIO(storage.read_bytes(path))) as picture:
            if picture.mode != "RGB" or not set(picture.size) <= set(SIDES):
                return None
            low = [(side - CROP) // 2 for side in picture.size]
            box = (low[0], low[1], low[0] + CROP, low[1] + CROP)
            small = picture.crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    # Pillow raises SyntaxError for some damaged headers.
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return None
    return np.asarray(small, dtype=np.uint8).transpose(2, 0, 1)[::-1]


def compose_zoo(
    images: Tensor, n: int, generator: torch.Generator, recipe: ZooRecipe | None = None
) -> ZooBlends:
    """Blend `n` random pairs of pictures ``(m, 3, y, x)`` on the device of both arguments.

    The second galaxy is flipped, rotated, displaced and scaled; the blend is the pixelwise
    maximum of the two.  Where the second picture does not reach, it is black.
    """
    recipe, device = recipe or ZooRecipe(), images.device
    first = torch.randint(len(images), (n,), generator=generator, device=device)
    step = torch.randint(1, len(images), (n,), generator=generator, device=device)
    central = images[first].float() / 255
    other = images[(first + step) % len(images)].float() / 255
    warp = _draw_warp(n, images.shape[-1], recipe, generator)
    # The interpolation is not printed; bilinear keeps pixels in [0, 1].
    grid = F.affine_grid(warp.matrix, list(other.shape), align_corners=False)
    other = F.grid_sample(other, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    middle = (images.shape[-1] - 1) / 2
    xy = torch.stack([torch.full_like(warp.shift, middle), warp.shift + middle], dim=1)
    galaxies = torch.stack([central, other], dim=1)
    return ZooBlends(galaxies.amax(dim=1), 2 * galaxies - 1, xy)


@dataclass(frozen=True)
class _Warp:
    """Maps ``(n, 2, 3)`` from output to input coordinates, and shifts ``(n, 2)`` in pixels."""

    matrix: Tensor
    shift: Tensor


def _draw_warp(n: int, size: int, recipe: ZooRecipe, generator: torch.Generator) -> _Warp:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        values = torch.rand((n, *shape), generator=generator, device=generator.device)
        return low + (high - low) * values

    def sign() -> Tensor:
        return 1 - 2 * (uniform(0, 1, 2) < 0.5).float()

    angle, scale = uniform(0, 2 * math.pi), torch.exp(uniform(*recipe.log_scale))
    shift = uniform(*recipe.displacement, 2) * sign()
    flip = sign()
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # Rows of flip . rotation / scale: where in the original does an output pixel come from?
    rotation = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], dim=1)
    linear = flip[:, :, None] * rotation
    # affine_grid counts from -1 to 1 across the picture.
    offset = -linear @ (2 * shift / size)[:, :, None]
    return _Warp(torch.cat([linear, offset], dim=2), shift)


def draw_zoo_blends(
    images: NDArray[np.uint8], n: int, seed: int, recipe: ZooRecipe | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw `n` blends as NumPy arrays, the same for a seed.

    Returns
    -------
    blend, galaxies, xy
        ``(n, 3, y, x)`` and ``(n, 2, 3, y, x)``, both in [0, 1], and ``(n, 2, 2)``.
    """
    generator = torch.Generator().manual_seed(seed)
    blends = compose_zoo(torch.from_numpy(images), n, generator, recipe)
    return blends.blend.numpy(), ((blends.galaxies + 1) / 2).numpy(), blends.xy.numpy()
