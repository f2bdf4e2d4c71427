"""Arrays in, models out, in any unit: `raydeblend.load` and `raydeblend deblend IN.npz OUT.npz`.

The layout of the file is in the README.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend import access, storage
from raydeblend.deblend.masks import mask_for
from raydeblend.errors import ConfigError
from raydeblend.tile import BoolArray, Deblended, Deblender, FloatArray

MIN_SIZE = 24
MAX_SIZE = 256

SCALES = (0.001, 60.0)
"""Arcsec of a pixel's side."""
MOST_NEGATIVE = 0.05
"""Share of negative pixels from which a variance or weight is none."""
FAR = 1e30
"""Units beyond which, and beyond one over which, float32 has no room for models."""
NAMES = ("images", "variance", "weights", "mask", "psf", "pixel_scale", "bands")
"""Of the arrays in a file."""
IN_UNIT = ("flux", "flux_err", "flux_err_model", "model_std")
"""What of `Deblended.extra` is in the unit of the images."""

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Stamps:
    """A validated batch, divided by `unit` so that no unit leaves the range of float32.

    Attributes
    ----------
    images
        ``(n, bands, y, x)``; 0 where not finite.
    variance
        Same shape, positive and finite, or None.
    mask
        ``(n, bands, y, x)``, true where unusable.
    psf
        ``(bands, py, px)`` or ``(n, bands, py, px)``, normalized, or None.
    unit
        A power of two, so that the division loses no digits.
    """

    images: FloatArray
    variance: FloatArray | None
    mask: BoolArray
    psf: FloatArray | None
    bands: tuple[str, ...] | None
    pixel_scale: float | None
    unit: float


def deblend_file(in_path: str, out_path: str, deblender: Deblender) -> Deblended:
    """Deblend the stamps of an npz file, local or on s3, and write the models to another.

    Returns
    -------
    What was written: ``models``, ``n_sources``, ``xy`` and ``quality``, in the input's unit.

    Raises
    ------
    ConfigError
        If the file cannot be read or does not have the layout, or the other cannot be written.
    """
    stamps = parse_stamps(read_npz(in_path))
    access.check_file_writable(out_path)
    result = deblend_stamps(stamps, deblender)
    write_result(out_path, result)
    return result


@dataclass(frozen=True)
class AnyUnit:
    """A deblender that takes what `parse_stamps` does: any unit, type, memory order, masked arrays.

    Those that it stands for compute in float32, whose range fluxes in cgs units leave.
    """

    deblender: Deblender

    @property
    def name(self) -> str:
        """The name of the deblender."""
        return self.deblender.name

    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: ArrayLike | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
        **own: Any,
    ) -> Deblended:
        """Deblend a batch; see `raydeblend.tile.Deblender`.

        Parameters
        ----------
        own
            What the deblender takes beyond that, such as ``xy`` of `joint`.

        Raises
        ------
        ConfigError
            If an array has another shape than it should, or cannot be used.
        """
        given = {
            "images": images,
            "variance": variance,
            "mask": mask,
            "psf": psf,
            "bands": bands,
            "pixel_scale": pixel_scale,
        }
        arrays = {name: np.asanyarray(value) for name, value in given.items() if value is not None}
        return deblend_stamps(parse_stamps(arrays), self.deblender, **own)


def deblend_stamps(stamps: Stamps, deblender: Deblender, **own: Any) -> Deblended:
    """Deblend a validated batch; models and what is in their unit come back in the input's."""
    result = deblender(
        stamps.images,
        variance=stamps.variance,
        mask=mask_for(deblender, stamps.mask),
        psf=stamps.psf,
        bands=stamps.bands,
        pixel_scale=stamps.pixel_scale,
        **own,
    )
    kind: Any = np.float32 if 1 / FAR < stamps.unit < FAR else np.float64
    models = np.asarray(result.models * np.float64(stamps.unit), dtype=kind)
    extra = {
        name: np.asarray(values, np.float64) * stamps.unit if name in IN_UNIT else values
        for name, values in result.extra.items()
    }
    return replace(result, models=models, extra=extra)


def read_npz(path: str) -> dict[str, NDArray[np.generic]]:
    """Read all arrays of an npz file, local or on s3.

    Raises
    ------
    ConfigError
        If there is no such file or it is not an npz file of plain arrays.
    """
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except storage.READ_ERRORS as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)):
            return dict(np.load(io.BytesIO(data), allow_pickle=False))
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
        raise ConfigError(f"{path} is not an npz file of numeric arrays: {error}") from error


def write_result(path: str, result: Deblended) -> None:
    """Write ``models``, ``n_sources``, ``xy`` and ``quality`` as an npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        models=result.models,
        n_sources=result.n_sources,
        xy=result.xy,
        quality=result.quality,
    )
    storage.write_bytes(path, buffer.getvalue())


def parse_stamps(arrays: Arrays) -> Stamps:
    """Check the arrays of the fixed layout.

    Pixels that are not finite in the image, or whose variance is not positive and finite (whose
    weight is not positive), become masked in their band.  A `mask` is ``(n, bands, y, x)``, or
    ``(n, y, x)`` for all bands alike.

    Raises
    ------
    ConfigError
        If an array is missing, of a name that the layout does not know, or of another shape.
    """
    images = _images(arrays)
    _check_names(arrays)
    variance = _variance(arrays, images.shape)
    bad = ~np.isfinite(images)
    if variance is not None:
        bad |= ~(np.isfinite(variance) & (variance > 0))
    mask = bad | _mask(arrays, images.shape)
    images = np.where(mask, 0, images)
    unit = _power_of_two(images)
    return Stamps(
        images=(images / unit).astype(np.float32),
        variance=None if variance is None else _fill(variance / unit / unit, bad),
        mask=mask,
        psf=_psf(arrays, images.shape),
        bands=_bands(arrays, images.shape[1]),
        pixel_scale=_pixel_scale(arrays),
        unit=unit,
    )


def _images(arrays: Arrays) -> NDArray[np.float64]:
    if "images" not in arrays:
        hint = "; it is an evaluation set: use `raydeblend evaluate`, or save blend2 as images"
        raise ConfigError(
            f"the file has no array 'images' of shape (n, bands, y, x), but "
            f"{_names(arrays)}{hint if 'blend2' in arrays else ''}"
        )
    images = _numeric(arrays, "images")
    if images.ndim != 4 or 0 in images.shape[:2]:
        raise ConfigError(f"images must have shape (n, bands, y, x), not {images.shape}")
    if min(images.shape[2:]) < MIN_SIZE or max(images.shape[2:]) > MAX_SIZE:
        raise ConfigError(
            f"stamps must have {MIN_SIZE} to {MAX_SIZE} pixels on a side, not "
            f"{images.shape[2]} x {images.shape[3]}"
        )
    return images


def _check_names(arrays: Arrays) -> None:
    """Refuse names that are not the layout's: a misspelled variance would go unused."""
    unknown = sorted(arrays.keys() - set(NAMES))
    if unknown:
        raise ConfigError(
            f"the file has arrays of unknown names: {', '.join(unknown)}; known: {', '.join(NAMES)}"
        )


def _names(arrays: Arrays) -> str:
    return ", ".join(sorted(arrays)) or "no array at all"


def _numeric(arrays: Arrays, name: str) -> NDArray[np.float64]:
    """Return an array as float64, rows first; NaN where it is masked (`numpy.ma`)."""
    array = arrays[name]
    if hasattr(array, "unit"):
        raise ConfigError(f"{name} has the unit {array.unit}; give plain numbers ({name}.value)")
    if array.dtype.kind not in "fiub":
        raise ConfigError(f"{name} must hold real numbers, not {array.dtype}")
    return np.array(np.ma.filled(array.astype(np.float64), np.nan), order="C")


def _variance(arrays: Arrays, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    given = [name for name in ("variance", "weights") if name in arrays]
    if len(given) > 1:
        raise ConfigError("give either variance or weights, not both")
    if not given:
        return None
    values = _numeric(arrays, given[0])
    if values.shape != shape:
        raise ConfigError(f"{given[0]} has shape {values.shape}, images have {shape}")
    negative = float(np.mean(values < 0))
    if negative > MOST_NEGATIVE:
        raise ConfigError(f"{given[0]} are negative in {100 * negative:.0f} % of the pixels")
    if given[0] == "variance":
        return values
    return np.divide(1, values, out=np.zeros(shape), where=values > 0)


def _fill(variance: NDArray[np.float64], bad: BoolArray) -> FloatArray:
    """Give unusable pixels the median of the usable ones."""
    median = np.median(variance[~bad]) if not bad.all() else 1.0
    return np.where(bad, median, variance).astype(np.float32)


def _mask(arrays: Arrays, shape: tuple[int, ...]) -> BoolArray:
    """Return the mask of each band, or of all alike, as ``(n, bands or 1, y, x)``."""
    common = (shape[0], *shape[2:])
    if "mask" not in arrays:
        return np.zeros((1, 1, 1, 1), dtype=bool)
    mask = _numeric(arrays, "mask")
    if mask.shape not in (common, shape):
        raise ConfigError(
            f"mask has shape {mask.shape}, expected (n, y, x) = {common} or "
            f"(n, bands, y, x) = {shape}"
        )
    return np.asarray((mask if mask.ndim == 4 else mask[:, None]) != 0)


def _psf(arrays: Arrays, shape: tuple[int, ...]) -> FloatArray | None:
    if "psf" not in arrays:
        return None
    psf = _numeric(arrays, "psf")
    if psf.shape[:-2] not in (shape[1:2], shape[:2]):
        raise ConfigError(
            f"psf has shape {psf.shape}, expected ({shape[1]}, py, px) or {shape[:2]} + (py, px)"
        )
    if not (psf.shape[-1] % 2 and psf.shape[-2] % 2):
        raise ConfigError(f"psf must have odd sides, not {psf.shape[-2]} x {psf.shape[-1]}")
    total = psf.sum(axis=(-2, -1), keepdims=True)
    if not (np.isfinite(psf).all() and (total > 1e-6 * np.abs(psf).max()).all()):
        raise ConfigError("psf must be finite and have a positive sum in every band")
    return np.asarray(psf / total, dtype=np.float32)


def _bands(arrays: Arrays, n_bands: int) -> tuple[str, ...] | None:
    if "bands" not in arrays:
        return None
    bands = tuple(str(band) for band in np.atleast_1d(arrays["bands"]).astype(str))
    if len(bands) != n_bands:
        raise ConfigError(f"bands names {len(bands)} bands, images have {n_bands}")
    return bands


def _pixel_scale(arrays: Arrays) -> float | None:
    if "pixel_scale" not in arrays:
        return None
    scale = _numeric(arrays, "pixel_scale")
    low, high = SCALES
    if scale.size != 1 or not low <= scale.item() <= high:
        raise ConfigError(f"pixel_scale must be one number from {low:g} to {high:g}, in arcsec")
    return float(scale.item())


def _power_of_two(images: NDArray[np.float64]) -> float:
    size = float(np.std(images))
    return float(2.0 ** np.round(np.log2(size))) if 0 < size < np.inf else 1.0
