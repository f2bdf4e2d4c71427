"""One patch of sky by HSC and by HST: which of HST's sources show at HSC's resolution.

Peaks are sought in the HSC image by its own PSF, in the network's sharpened image of it, and in
HST's.  The two images are put on one another by their WCS and, since that of HST's mosaics is off
by tenths of an arcsec, by the shift at which HST's image, blurred to HSC's PSF, is most like HSC's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize

from raydeblend import access, storage
from raydeblend.deblend.preparation import prepare
from raydeblend.deblend.srgan.deblender import SrganDeblender
from raydeblend.detect.matching import match_sky
from raydeblend.detect.noise import difference_noise
from raydeblend.detect.sharp_peaks import PeakRule, find_sharp_peaks, psf_sigma
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.common.tables import Table, number
from raydeblend.networks.weights import one_network
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]
Row = Mapping[str, str | int | float]

FILES = {
    "hsc": "Cut_HSC_pairC_1band.fits",
    "hsc_psf": "PSF_HSC_pairC_1band.fits",
    "hst": "Cut_HST_pairC.fits",
    "hst_psf": "PSF_HST.fits",
}
HSC, NETWORK, HST = "HSC", "network", "HST"
RADIUS = 0.35
"""Arcsec, half of HSC's seeing, within which a peak is one of HST's."""
KNOT = 0.08
"""Arcsec (sigma) of what is sought in HST's image: its PSF is narrower than knots of galaxies."""
HST_RULE = PeakRule(threshold=5.0, curvature=4.0, prominence=3.0, contrast=0.2, relative=0.1)
"""What counts as a peak of its own there."""
MAX_SHIFT = 0.6
"""Arcsec by which the WCS may be off."""


@dataclass(frozen=True)
class Picture:
    """One image of the pair.

    Attributes
    ----------
    image
        ``(y, x)``.
    psf
        ``(py, px)``.
    wcs
        Of its pixels, 0-based.
    sigma
        Noise of a pixel.
    """

    image: FloatArray
    psf: FloatArray
    wcs: WCS
    sigma: float

    @property
    def pixel_scale(self) -> float:
        """Arcsec."""
        return float(np.sqrt(np.abs(np.linalg.det(self.wcs.pixel_scale_matrix))) * 3600)


@dataclass(frozen=True)
class Pair:
    """The two images, and the pixels (x, y) to add to a place in HSC's that HST's WCS gives."""

    hsc: Picture
    hst: Picture
    shift: Array

    def to_hsc(self, xy: Array) -> Array:
        """Return HSC pixels ``(n, 2)`` of HST pixels ``(n, 2)``, (x, y)."""
        return np.asarray(_through(self.hst.wcs, self.hsc.wcs, xy) + self.shift)


@dataclass(frozen=True)
class PairScores:
    """What was found.

    Attributes
    ----------
    pair
        The images.
    sharp
        ``(3 y, 3 x)`` the network's.
    xy
        By image, ``(k, 2)`` peaks in HSC pixels (x, y).
    """

    pair: Pair
    sharp: FloatArray
    xy: Mapping[str, Array]


def read_pair(root: str) -> Pair:
    """Read the pair in a folder, local or on s3, and register it.

    Raises
    ------
    ConfigError
        If a file is missing.
    """
    loaded = {}
    for name, file in FILES.items():
        path = storage.join(root, file)
        if not storage.exists(path):
            raise ConfigError(f"{root} lacks {file}, one of the files of the HSC and HST pair")
        with fits.open(io.BytesIO(storage.read_bytes(path))) as hdus:
            loaded[name] = np.asarray(hdus[0].data, dtype=np.float32), hdus[0].header.copy()
    hsc, hst = (
        Picture(
            loaded[name][0],
            loaded[f"{name}_psf"][0],
            WCS(loaded[name][1]),
            float(difference_noise(loaded[name][0])),
        )
        for name in ("hsc", "hst")
    )
    return register(hsc, hst)


def filtered_noise(picture: Picture, width: float) -> float:
    """Return the noise that white pixels would have for the noise of the matched filter's output.

    The pixels of mosaics are correlated, so that peaks of noise are higher than of white noise.
    `width` is the filter's standard deviation in pixels.
    """
    smooth = gaussian_filter(picture.image, width)
    spread = 1.4826 * np.median(np.abs(smooth - np.median(smooth)))
    return float(spread * 2 * np.sqrt(np.pi) * width)


def register(hsc: Picture, hst: Picture) -> Pair:
    """Find the shift at which the blurred HST image correlates best with HSC's."""
    blurred = _to_hsc_seeing(hsc, hst)
    reach = MAX_SHIFT / hsc.pixel_scale
    steps = np.linspace(-reach, reach, 7)
    grid = [(x, y) for x in steps for y in steps]

    def loss(shift: Array) -> float:
        return -_correlation(hsc, hst, blurred, np.asarray(shift))

    start = min(grid, key=lambda shift: loss(np.array(shift)))
    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-6})
    return Pair(hsc, hst, np.asarray(best.x, dtype=np.float64))


def _to_hsc_seeing(hsc: Picture, hst: Picture) -> FloatArray:
    """Return HST's image blurred by the Gaussian by which HSC's PSF is wider."""
    wide = psf_sigma(hsc.psf) * hsc.pixel_scale / hst.pixel_scale
    narrow = psf_sigma(hst.psf)
    return np.asarray(gaussian_filter(hst.image, np.sqrt(max(wide**2 - narrow**2, 1.0))))


def _correlation(hsc: Picture, hst: Picture, blurred: FloatArray, shift: Array) -> float:
    """Return the correlation of both in the HSC pixels that HST has seen."""
    seen, inside = _resampled(hsc, hst, blurred, shift)
    return float(np.corrcoef(seen[inside], hsc.image[inside])[0, 1])


def _resampled(
    hsc: Picture, hst: Picture, image: FloatArray, shift: Array
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return an image of HST's pixels in HSC's, and which of these HST has seen whole."""
    y, x = np.indices(hsc.image.shape)
    fine = _through(hsc.wcs, hst.wcs, np.column_stack([x.ravel(), y.ravel()]) - shift)
    margin = hsc.pixel_scale / hst.pixel_scale
    upper = np.array(hst.image.shape[::-1]) - 1 - margin
    inside = ((fine >= margin) & (fine <= upper)).all(axis=1).reshape(hsc.image.shape)
    values = map_coordinates(image, fine[:, ::-1].T, order=1, mode="nearest")
    return values.reshape(hsc.image.shape).astype(np.float32), np.asarray(inside, dtype=bool)


def _through(source: WCS, target: WCS, xy: Array) -> Array:
    """Return the pixels (x, y) of `target` at pixels of `source`; FK5 and ICRS are one here."""
    return np.asarray(target.wcs_world2pix(source.wcs_pix2world(xy, 0), 0))


def find_all(pair: Pair, network: SrganDeblender) -> PairScores:
    """Find the peaks of all three images, in the part of the sky that both have seen."""
    hsc, hst = pair.hsc, pair.hst
    stamps = prepare(hsc.image[None, None], np.full((1, 1, *hsc.image.shape), hsc.sigma**2))
    view = network.look(stamps, None)
    knot = max(KNOT / hst.pixel_scale, psf_sigma(hst.psf))
    fine = find_sharp_peaks(hst.image, _gaussian(knot), filtered_noise(hst, knot), HST_RULE)
    _, inside = _resampled(hsc, hst, hst.image, pair.shift)
    everywhere = {
        HSC: find_sharp_peaks(hsc.image, hsc.psf, hsc.sigma).xy,
        NETWORK: network.positions(stamps, None, view)[0],
        HST: pair.to_hsc(fine.xy),
    }
    xy = {name: _within(places, inside) for name, places in everywhere.items()}
    return PairScores(pair, view.sharp[0], xy)


def _gaussian(width: float) -> FloatArray:
    """Return a round Gaussian stamp of a standard deviation in pixels."""
    x = np.arange(-12, 13)
    line = np.exp(-(x**2) / (2 * width**2))
    return np.outer(line, line).astype(np.float32)


def _within(xy: Array, inside: NDArray[np.bool_]) -> Array:
    """Return the positions ``(n, 2)`` that lie where `inside` is true."""
    places = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
    column, row = places.round().astype(int).T
    height, width = inside.shape
    on = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    on[on] = inside[row[on], column[on]]
    return np.asarray(places[on])


def score_pair(scores: PairScores) -> list[Row]:
    """Return a row per image: its peaks, and how many are HST's."""
    truth = scores.xy[HST]
    scale = scores.pair.hsc.pixel_scale
    rows: list[Row] = []
    for name, xy in scores.xy.items():
        match = match_sky(truth * scale, -np.arange(len(truth), dtype=float), xy * scale, RADIUS)
        found = int((match >= 0).sum())
        rows.append(
            {
                "protocol": "hst-pair",
                "image": name,
                "peaks": len(xy),
                "hst_sources": len(truth),
                "found": found,
                "fraction": found / len(truth) if len(truth) else float("nan"),
                "not_in_hst": len(xy) - found,
            }
        )
    return rows


def pair_table(rows: list[Row], pair: Pair) -> Table:
    """Return a line for each image, with the shift below."""
    lines = [
        [
            str(row["image"]),
            str(row["peaks"]),
            f"{row['found']} of {row['hst_sources']}",
            number(float(row["fraction"]), ".2f"),
            str(row["not_in_hst"]),
        ]
        for row in rows
    ]
    header = ["image", "peaks", "HST's sources", "fraction", "not in HST"]
    x, y = pair.shift * pair.hsc.pixel_scale
    shift = f'HST on HSC: moved by ({x:+.2f}", {y:+.2f}") from its WCS'
    return Table(header, lines, after=(shift,))


def pair_figure(scores: PairScores) -> bytes:
    """Draw the three images side by side with their peaks, as PNG."""
    pair = scores.pair
    figure = Figure(figsize=(11, 4.2), dpi=DPI, layout="constrained")
    scale, center = pair.hsc.pixel_scale, (np.array(pair.hsc.image.shape[::-1]) - 1) / 2
    corners = pair.to_hsc(np.array([[-0.5, -0.5], np.array(pair.hst.image.shape[::-1]) - 0.5]))
    whole = np.array([[-0.5, -0.5], np.array(pair.hsc.image.shape[::-1]) - 0.5])
    panels = (
        (HSC, pair.hsc.image / pair.hsc.sigma, whole, 5.0),
        (NETWORK, scores.sharp, whole, 0.5),
        (HST, gaussian_filter(pair.hst.image, 1.0) / pair.hst.sigma, corners, 1.0),
    )
    for axes, (name, image, ends, soft) in zip(figure.subplots(1, 3), panels, strict=True):
        (left, bottom), (right, top) = (ends - center) * scale
        axes.imshow(
            np.arcsinh(image / soft),
            extent=(left, right, bottom, top),
            origin="lower",
            cmap="gray_r",
            interpolation="nearest",
        )
        place = (scores.xy[name] - center) * scale
        axes.plot(*place.T, "+", color="C3", ms=11, mew=1.6)
        low, high = ((np.array(edge) - center) * scale for edge in (corners[0], corners[1]))
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="x / arcsec")
        axes.set_title(f"{name}, peaks: {len(place)}", fontsize=10)
    figure.axes[0].set_ylabel("y / arcsec")
    figure.suptitle("Peaks in HSC, in the network's image of it, and in HST", fontsize=10)
    return to_png(figure)


def run(request: Request) -> Report:
    """Score the network on the pair in a folder.

    Raises
    ------
    ConfigError
        If a file is missing.
    """
    data = request.needed_data("the folder of the HSC and HST pair")
    access.check_writable(request.out)
    pair = read_pair(data)
    scores = find_all(pair, SrganDeblender.load(weights=one_network(request.weights, "srgan")))
    rows = score_pair(scores)
    return Report(rows, [pair_table(rows, pair)], {"hst_pair.png": pair_figure(scores)})
