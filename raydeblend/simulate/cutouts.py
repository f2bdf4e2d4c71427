"""HST cutouts on disk: one reader per layout, and what makes a clean stamp of a cutout.

The layouts are distinguished by their file names; `raydeblend.simulate.hst` describes them.  An
image that cannot be read, is not two-dimensional or is smaller than `MIN_SIZE` is skipped and
counted.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep
from astropy.io import fits
from astropy.table import Row, Table
from numpy.typing import NDArray
from scipy import ndimage, sparse

from raydeblend.errors import ConfigError
from raydeblend.survey import NJY_ZERO_POINT

Image = NDArray[np.float32]

MIN_SIZE = 8
"""Pixels on a side; GalSim's example catalogs hold 2×2 images where a galaxy was taken out."""
COSMOS_ZERO_POINT = 25.94
"""AB magnitude of one count of GalSim's COSMOS images (F814W)."""
JEDISIM_SCALE, TINYTIM_SCALE = 0.06, 0.0231
IDENTIFIERS = 10_000_000
"""Numbers of one collection; a multiple of 8, so that a split by the remainder stays one."""
# What is read where: the detection of the central galaxy's segment.
SEGMENT_SIGMA, SEGMENT_AREA = 1.5, 5
DEBLEND_CONTRAST = 0.1
"""High enough that the clumps of one spiral stay together (SExtractor's default is 0.005)."""
GROW = 3
"""Pixels by which a neighbor's segment is widened before it is replaced."""
I_BANDS = ("F775W", "F814W")
"""Where only one band is asked for, these two stand for each other (7,690 and 8,050 Å)."""

ZERO_BACKGROUND = 0.3
"""An image with more exact zeros than this fraction has been cut out along its segment."""
NOISE_FLOOR = 1e-4
"""Of the peak: the noise assumed where an image has none."""

READ_ERRORS = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, fits.VerifyError)


@dataclass(frozen=True)
class Cutout:
    """One galaxy as it lies on disk.

    Attributes
    ----------
    galaxy
        Identifier, unique over all collections.
    images
        ``(y, x)`` by band.
    pixel_scale
        Arcsec.
    njy_per_count
        By band; a band that is not in it has no known zero point.
    psf
        Normalized image and its pixel scale, or None.
    sky
        Mean and sigma of the sky in counts where the catalog knows them, else estimated.
    """

    galaxy: int
    images: Mapping[str, Image]
    pixel_scale: float
    njy_per_count: Mapping[str, float]
    psf: tuple[Image, float] | None = None
    sky: tuple[float, float] | None = None


def read_cutouts(folder: Path, bands: tuple[str, ...]) -> Iterator[Cutout | None]:
    """Yield the galaxies of one folder that have all `bands`; None for each unreadable one."""
    cosmos = sorted(folder.glob("real_galaxy_catalog*example.fits")) or sorted(
        path for path in folder.glob("real_galaxy_catalog_*.fits") if _is_main_catalog(path)
    )
    if cosmos:
        for catalog in cosmos:
            yield from _read_cosmos(catalog, bands)
    elif any(folder.glob("f814w_gal*.fits*")):
        yield from _read_jedisim(folder, bands)
    elif any(folder.glob("*_scaled_*galaxy_*.fits*")):
        yield from _read_hudf(folder, bands)
    else:
        for catalog in sorted(folder.glob("catalog.*")):
            yield from _read_table(catalog, bands)


def _is_main_catalog(path: Path) -> bool:
    return not path.stem.endswith(("_fits", "_selection"))


def _read_cosmos(catalog: Path, bands: tuple[str, ...]) -> Iterator[Cutout | None]:
    """GalSim's layout (`galsim.RealGalaxyCatalog`); the images are in F814W."""
    if not _same_band(bands, "F814W"):
        return
    extension = "extension" in catalog.name
    unit = 10 ** (0.4 * (NJY_ZERO_POINT - COSMOS_ZERO_POINT))
    files: dict[str, fits.HDUList] = {}
    for row in Table.read(catalog):
        try:
            image = _hdu(files, catalog.parent, row, "GAL")
            psf = _hdu(files, catalog.parent, row, "PSF")
        except READ_ERRORS:
            yield None
            continue
        yield Cutout(
            galaxy=(2 if extension else 1) * IDENTIFIERS + int(row["IDENT"]),
            images={bands[0]: image},
            pixel_scale=float(row["PIXEL_SCALE"]),
            njy_per_count={bands[0]: unit},
            psf=(psf / psf.sum(), float(row["PIXEL_SCALE"])),
            sky=(float(row["NOISE_MEAN"]), float(row["NOISE_VARIANCE"]) ** 0.5),
        )
    for file in files.values():
        file.close()


def _hdu(files: dict[str, fits.HDUList], folder: Path, row: Row, kind: str) -> Image:
    name = str(row[f"{kind}_FILENAME"]).strip()
    if name not in files:
        files[name] = fits.open(folder / name, lazy_load_hdus=True)
    return _checked(files[name][int(row[f"{kind}_HDU"])].data)


def _read_jedisim(folder: Path, bands: tuple[str, ...]) -> Iterator[Cutout | None]:
    """``<band>_gal<number>.fits.gz``; one number is one galaxy, zero points are unknown."""
    known = {"F606W", "F814W", "F125W"}
    names = {band: "F814W" if _same_band(bands, "F814W") else band for band in bands}
    if not set(names.values()) <= known:
        return
    psf = None
    for path in sorted(folder.glob("f814w_psf.fits*")):
        tiny = _checked(fits.getdata(path))
        psf = (tiny / tiny.sum(), TINYTIM_SCALE)
    first = names[bands[0]].lower()
    for path in sorted(folder.glob(f"{first}_gal*.fits*")):
        others = [path.with_name(path.name.replace(first, names[b].lower(), 1)) for b in bands]
        if not all(other.exists() for other in others):
            continue
        try:
            images = {
                band: _checked(fits.getdata(other))
                for band, other in zip(bands, others, strict=True)
            }
        except READ_ERRORS:
            yield None
            continue
        yield Cutout(3 * IDENTIFIERS + _number(path), images, JEDISIM_SCALE, {}, psf)


def _read_hudf(folder: Path, bands: tuple[str, ...]) -> Iterator[Cutout | None]:
    """One galaxy a file; PIXSCALE and the zero point MAG0 are in its header.

    The header does not name the band; the flux agrees with its MAG (AB, zero point 30), and the
    detection band of the field is taken: F775W.
    """
    if not _same_band(bands, "F775W"):
        return
    for path in sorted(folder.glob("*.fits*")):
        try:
            data, header = fits.getdata(path, header=True)
            image, scale = _checked(data), float(header["PIXSCALE"])
            unit = 10 ** (0.4 * (NJY_ZERO_POINT - float(header["MAG0"])))
        except READ_ERRORS:
            yield None
            continue
        yield Cutout(4 * IDENTIFIERS + _number(path), {bands[0]: image}, scale, {bands[0]: unit})


def _read_table(catalog: Path, bands: tuple[str, ...]) -> Iterator[Cutout | None]:
    """Read FITS stamps of a user, listed in a table (see `raydeblend.simulate.hst`)."""
    try:
        table = Table.read(catalog)
    except READ_ERRORS as error:
        raise ConfigError(f"{catalog} is not a table: {error}") from error
    missing = [name for name in ("galaxy", "band", "image") if name not in table.colnames]
    if missing:
        raise ConfigError(f"{catalog} has no column {missing[0]}; it needs galaxy, band, image")
    for galaxy in dict.fromkeys(str(value) for value in table["galaxy"]):
        rows = {str(row["band"]): row for row in table if str(row["galaxy"]) == galaxy}
        if all(band in rows for band in bands):
            try:
                yield _listed(catalog.parent, galaxy, {band: rows[band] for band in bands})
            except READ_ERRORS:
                yield None


def _listed(folder: Path, galaxy: str, rows: Mapping[str, Row]) -> Cutout:
    images, units, scales = {}, {}, []
    for band, row in rows.items():
        hdu = int(row["hdu"]) if "hdu" in row.colnames else 0
        data, header = fits.getdata(folder / str(row["image"]), hdu, header=True)
        images[band] = _checked(data)
        scales.append(float(_value(row, header, "pixel_scale", "PIXSCALE") or 0.06))
        zero = _value(row, header, "zeropoint", "MAGZERO")
        if zero is not None:
            units[band] = 10 ** (0.4 * (NJY_ZERO_POINT - zero))
    if len(set(scales)) > 1:
        raise ValueError("the bands of a galaxy must have one pixel scale")
    number = int(galaxy) if galaxy.isdecimal() else zlib.crc32(galaxy.encode())
    return Cutout(number, images, scales[0], units, _listed_psf(folder, tuple(rows), scales[0]))


def _listed_psf(folder: Path, bands: tuple[str, ...], scale: float) -> tuple[Image, float] | None:
    for band in bands:
        path = folder / f"psf_{band}.fits"
        if path.exists():
            psf = _checked(fits.getdata(path))
            return psf / psf.sum(), float(fits.getheader(path).get("PIXSCALE", scale))
    return None


def _value(row: Row, header: fits.Header, column: str, card: str) -> float | None:
    value = row[column] if column in row.colnames else header.get(card)
    return None if value is None or np.ma.is_masked(value) else float(value)


def _same_band(bands: tuple[str, ...], name: str) -> bool:
    return bands == (name,) or (len(bands) == 1 and bands[0] in I_BANDS and name in I_BANDS)


def _number(path: Path) -> int:
    found = re.findall(r"\d+", path.name.split(".")[0])
    return int(found[-1])


def _checked(data: NDArray[np.generic] | None) -> Image:
    image = np.asarray(data, dtype=np.float32)
    if image.ndim != 2 or min(image.shape) < MIN_SIZE or not image.any():
        raise ValueError(f"not an image of a galaxy: shape {image.shape}")
    return image


def rebin(
    image: NDArray[np.floating], ratio: float, center: tuple[float, float], size: int
) -> Image:
    """Put an image on another grid by exact areas, so that flux is conserved.

    Parameters
    ----------
    image
        ``(y, x)`` flux per pixel.
    ratio
        New pixel over old pixel.
    center
        (y, x) in old pixels of what becomes the middle of the new stamp.
    size
        Side of the new stamp; what lies outside the old image is zero there.
    """
    # Nearly all of the overlaps are zero.
    rows, columns = (
        sparse.csr_array(_overlap(length, ratio, middle, size))
        for length, middle in zip(image.shape, center, strict=True)
    )
    return np.asarray(rows @ image @ columns.T, dtype=np.float32)


def _overlap(length: int, ratio: float, center: float, size: int) -> NDArray[np.float64]:
    """Return ``(size, length)``: which fraction of each old pixel lies in each new one."""
    edges = center + ratio * (np.arange(size + 1) - size / 2)
    old = np.arange(length)
    low = np.maximum(edges[:-1, None], old - 0.5)
    high = np.minimum(edges[1:, None], old + 0.5)
    return np.asarray(np.maximum(high - low, 0.0))


def central_stamp(
    cutout: Cutout, bands: tuple[str, ...], size: int, pixel_scale: float, rng: np.random.Generator
) -> Image | None:
    """Return ``(bands, size, size)``: the central galaxy alone, in nJy where that is known.

    The sky is subtracted; neighbors outside the central segment, and what lies off the image,
    are replaced by white noise of the sky's sigma, or by zero where the image has no sky noise.
    The segment is that of the sum of the bands.  None if nothing is detected.
    """
    ratio = pixel_scale / cutout.pixel_scale
    side = int(1.5 * size * ratio)
    layers = [_subtract_sky(_middle(cutout.images[band], side), cutout.sky) for band in bands]
    found = _central_segment(layers)
    if found is None:
        return None
    neighbors, center = found
    good = rebin(1.0 - neighbors, ratio, center, size) > 0.5 * ratio**2
    stamp = np.zeros((len(bands), size, size), dtype=np.float32)
    for index, (band, (image, sigma)) in enumerate(zip(bands, layers, strict=True)):
        new = rebin(image, ratio, center, size)
        noise = rng.standard_normal(new.shape) * _noise_after(new[good], sigma * ratio)
        stamp[index] = np.where(good, new, noise) * cutout.njy_per_count.get(band, 1.0)
    return stamp


def _middle(image: Image, side: int) -> Image:
    """Return the middle of a large image, at most `side` pixels on a side."""
    cuts = [slice(max(0, (n - side) // 2), max(0, (n - side) // 2) + side) for n in image.shape]
    return image[tuple(cuts)]


def _subtract_sky(image: Image, known: tuple[float, float] | None) -> tuple[Image, float]:
    """Return the image less its sky, and the sky's sigma: 0 where the background is exactly 0."""
    if np.mean(image == 0) > ZERO_BACKGROUND:
        return image, 0.0
    mean, sigma = known or _border_sky(image)
    return np.nan_to_num(image - mean).astype(np.float32), sigma


def _border_sky(image: Image) -> tuple[float, float]:
    """Return the clipped mean and sigma of the outer tenth of the stamp on each side."""
    width = max(2, min(image.shape) // 10)
    inner = np.zeros(image.shape, dtype=bool)
    inner[width:-width, width:-width] = True
    sky = image[~inner & np.isfinite(image)].astype(np.float64)
    for _ in range(10):
        sigma = 1.4826 * np.median(np.abs(sky - np.median(sky)))
        sky = sky[np.abs(sky - np.median(sky)) <= 2.5 * sigma]
    return float(sky.mean()), float(sigma)


def _noise_after(pixels: NDArray[np.floating], white: float) -> float:
    """Return the sky's sigma on the new grid, from the negative pixels, which no galaxy reaches.

    Drizzled noise is correlated, so that it falls less than the `white` noise would.
    """
    negative = pixels[pixels < 0]
    if white == 0 or negative.size < 50:
        return white
    return float(np.sqrt(np.mean(negative**2)))


def _central_segment(
    layers: list[tuple[Image, float]],
) -> tuple[NDArray[np.float64], tuple[float, float]] | None:
    """Return ``(y, x)``, 1 on the neighbors, and the galaxy's center (y, x); None if no galaxy."""
    peaks = [max(float(image.max()), 1e-30) for image, _ in layers]
    data = sum(image / peak for (image, _), peak in zip(layers, peaks, strict=True))
    noise = np.hypot.reduce([sigma / peak for (_, sigma), peak in zip(layers, peaks, strict=True)])
    data = np.ascontiguousarray(data, dtype=np.float64)
    sep.set_extract_pixstack(max(300_000, data.size))
    objects, segments = sep.extract(
        data, SEGMENT_SIGMA, err=max(float(noise), NOISE_FLOOR * float(data.max())),
        minarea=SEGMENT_AREA, deblend_cont=DEBLEND_CONTRAST, segmentation_map=True,
    )  # fmt: skip
    if not len(objects):
        return None
    middle = (np.array(data.shape) - 1) / 2
    distance = np.hypot(objects["y"] - middle[0], objects["x"] - middle[1])
    # The brightest near the middle; e-folds of brightness for a sixth of the stamp.
    chosen = int(np.argmax(objects["flux"] * np.exp(-6 * distance / max(data.shape))))
    own = segments == chosen + 1
    grown = ndimage.binary_dilation((segments > 0) & ~own, iterations=GROW) & ~own
    y, x = objects["y"][chosen], objects["x"][chosen]
    return grown.astype(np.float64), (_on_edge(y), _on_edge(x))


def _on_edge(position: float) -> float:
    """Return the nearest edge between two pixels, so that whole ratios need no interpolation."""
    return float(np.floor(position) + 0.5)
