"""The protocol of Hemmati et al. (2022), section 4: which blends are found at which resolution.

Blends of two held-out galaxies, and single ones, are looked at in HST's image, in the image
degraded to HSC's, and by the super-resolution network in the degraded image.  A blend is found
if each galaxy has a peak of its own (`raydeblend.deblend.srgan.resolutions.both_found`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.preparation import Prepared, prepare
from raydeblend.deblend.srgan.deblender import SharpView, SrganDeblender
from raydeblend.deblend.srgan.resolutions import both_found, high_peaks, low_peaks, to_fine
from raydeblend.evaluate.common.rows import Row, cell, fraction
from raydeblend.evaluate.common.tables import Table
from raydeblend.evaluate.hemmati2022.photometry import Photometry, join_photometry, measure_dominant
from raydeblend.instruments import COUNTERPARTS, FACTOR, FINE_SCALE
from raydeblend.simulate.sharp_blends import SharpBlends, SharpTest, band_psfs, reference_band
from raydeblend.tile import Deblender

LOGGER = logging.getLogger(__name__)

PROTOCOL = "hemmati2022"
DEFAULT_N = 5000
LOW, HIGH = "HSC", "HST"
EXAMPLES = 6
# Section 4: blends found at high, low and the GAN's resolution, and false positives; section 4.2:
# ten per cent more with seven bands.
PAPER_FOUND = {HIGH: 0.8, LOW: 0.1, "srgan": 0.5, "srgan-multiband": 0.6}
PAPER_FALSE = 0.01
COARSE_SCALE = FACTOR * FINE_SCALE

Peaks = list[NDArray[np.float64]]
Find = Callable[[SharpBlends], Peaks]


@dataclass(frozen=True)
class Outcomes:
    """What is known of n images of k galaxies, and what each method saw.

    Attributes
    ----------
    separation, fwhm, delta_z
        ``(n,)`` arcsec between the galaxies, sum of their FWHM in arcsec, and |Δz|; of single
        galaxies 0, FWHM, 0.
    magnitude
        ``(n, k)`` AB, i band.
    is_real
        ``(n, k)``.
    counts, found
        By method ``(n,)``: the number of peaks, and whether all galaxies have one.
    seconds
        By method, per image.
    """

    separation: NDArray[np.float64]
    fwhm: NDArray[np.float64]
    delta_z: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    is_real: NDArray[np.bool_]
    counts: Mapping[str, NDArray[np.int64]]
    found: Mapping[str, NDArray[np.bool_]]
    seconds: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.separation)

    @property
    def magnitude_difference(self) -> NDArray[np.float64]:
        """Fainter less brighter, ``(n,)``."""
        return np.asarray(self.magnitude[:, -1] - self.magnitude[:, 0])

    @property
    def relative_separation(self) -> NDArray[np.float64]:
        """Separation over ΣFWHM, ``(n,)``."""
        return self.separation / self.fwhm


@dataclass(frozen=True)
class Example:
    """One blend with its peaks by method and the network's image, for the figures."""

    blend: SharpBlends
    sharp: NDArray[np.float32]
    peaks: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Results:
    """Blends of two, single galaxies, photometry of the dominant sources, examples."""

    network: str
    blends: Outcomes
    singles: Outcomes
    photometry: Photometry
    examples: Sequence[Example]


class NetworkFinder:
    """The network's peaks, and what it sees for the figures."""

    def __init__(self, network: SrganDeblender) -> None:
        self.network = network

    def __call__(self, blends: SharpBlends) -> Peaks:
        """Return ``(k, 2)`` fine positions for each blend."""
        stamps, view = self.look(blends)
        return [to_fine(xy) for xy in self.network.positions(stamps, self.network.bands, view)]

    def look(self, blends: SharpBlends) -> tuple[Prepared, SharpView]:
        """Return the stamps of the network's bands, and what it sees."""
        channels = [blends.bands.index(band) for band in self.network.bands]
        stamps = prepare(blends.low[:, channels], blends.variance[:, channels])
        return stamps, self.network.look(stamps, self.network.bands)


def find_low(blends: SharpBlends) -> Peaks:
    """Return the peaks of the low-resolution images."""
    band = reference_band(blends.bands)
    noise = np.sqrt(blends.variance[:, band])
    return [low_peaks(*pair) for pair in zip(blends.low[:, band], noise, strict=True)]


def find_high(blends: SharpBlends) -> Peaks:
    """Return the peaks of HST's images."""
    return [high_peaks(image) for image in blends.high[:, reference_band(blends.bands)]]


def by_deblender(deblender: Deblender, bands: Sequence[str]) -> Find:
    """Return the positions of a deblender's sources, of the low-resolution images in `bands`."""
    # A network of HST's bands knows them by name; the others, the ground's nearest.
    own = isinstance(deblender, SrganDeblender)
    names = tuple(band if own else COUNTERPARTS[band] for band in bands)

    def find(blends: SharpBlends) -> Peaks:
        channels = [blends.bands.index(band) for band in bands]
        result = deblender(
            blends.low[:, channels],
            blends.variance[:, channels],
            psf=band_psfs(bands),
            bands=names,
            pixel_scale=COARSE_SCALE,
        )
        return [to_fine(xy[:k]) for xy, k in zip(result.xy, result.n_sources, strict=True)]

    return find


def make_finders(
    networks: Mapping[str, SrganDeblender], deblenders: Mapping[str, Deblender]
) -> dict[str, Find]:
    """Return the methods by name: resolutions, networks, and deblenders.

    A deblender of a network's name, which tells that one's candidates apart by the pixels, sees
    the network's bands; the others see the i band.
    """
    reference = next(iter(networks.values())).bands
    i_band = (reference[reference_band(reference)],)
    finders: dict[str, Find] = {LOW: find_low, HIGH: find_high}
    finders |= {name: NetworkFinder(network) for name, network in networks.items()}
    for name, deblender in deblenders.items():
        own = networks[name].bands if name in networks else i_band
        finders[f"{name} (fit)" if name in finders else name] = by_deblender(deblender, own)
    return finders


def evaluate_hemmati2022(
    networks: Mapping[str, SrganDeblender], deblenders: Mapping[str, Deblender], test: SharpTest
) -> Results:
    """Find the blends of a test set, and as many single galaxies.

    Parameters
    ----------
    networks
        The first is the one whose positions are used for photometry and figures.
    deblenders
        Others that are scored, by name.
    """
    finders = make_finders(networks, deblenders)
    main = next(iter(networks))
    looker = NetworkFinder(networks[main])
    outcomes, photometry, examples = [], [], []
    for number, blends in enumerate(test.chunks()):
        peaks, seconds = _find_all(finders, blends)
        outcomes.append(_outcomes(blends, peaks, seconds))
        photometry.append(measure_dominant(blends, peaks[LOW], peaks[main]))
        if number == 0:
            examples = list(_examples(blends, peaks, main, looker))
        LOGGER.info("blends: %d of %d", sum(map(len, outcomes)), test.n)
    singles = []
    for blends in test.of(1).chunks():
        singles.append(_outcomes(blends, *_find_all(finders, blends)))
        LOGGER.info("single galaxies: %d of %d", sum(map(len, singles)), test.n)
    return Results(
        main, _join(outcomes), _join(singles), join_photometry(photometry), examples
    )  # fmt: skip


def _find_all(
    finders: Mapping[str, Find], blends: SharpBlends
) -> tuple[dict[str, Peaks], dict[str, float]]:
    peaks, seconds = {}, {}
    for name, find in finders.items():
        start = time.perf_counter()
        peaks[name] = find(blends)
        seconds[name] = (time.perf_counter() - start) / len(blends)
    return peaks, seconds


def _outcomes(
    blends: SharpBlends, peaks: Mapping[str, Peaks], seconds: Mapping[str, float]
) -> Outcomes:
    redshift = blends.redshift
    return Outcomes(
        separation=blends.separation,
        fwhm=blends.fwhm.sum(axis=1),
        delta_z=np.abs(redshift[:, -1] - redshift[:, 0]),
        magnitude=blends.magnitude,
        is_real=blends.is_real,
        counts={name: np.array([len(xy) for xy in found]) for name, found in peaks.items()},
        found={
            name: np.array([both_found(*pair) for pair in zip(found, blends.xy, strict=True)])
            for name, found in peaks.items()
        },
        seconds=seconds,
    )


def _join(parts: Sequence[Outcomes]) -> Outcomes:
    sizes = [len(part) for part in parts]
    arrays = ("separation", "fwhm", "delta_z", "magnitude", "is_real")
    names = parts[0].counts
    return Outcomes(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays},
        counts={name: np.concatenate([part.counts[name] for part in parts]) for name in names},
        found={name: np.concatenate([part.found[name] for part in parts]) for name in names},
        seconds={
            name: float(np.average([part.seconds[name] for part in parts], weights=sizes))
            for name in names
        },
    )


def _examples(
    blends: SharpBlends, peaks: Mapping[str, Peaks], name: str, finder: NetworkFinder
) -> Iterator[Example]:
    """Yield blends that the network gains, then others."""
    _, view = finder.look(blends)
    gained = [
        len(peaks[LOW][i]) == 1
        and both_found(peaks[name][i], blends.xy[i])
        and both_found(peaks[HIGH][i], blends.xy[i])
        for i in range(len(blends))
    ]
    order = np.argsort(~np.array(gained), kind="stable")
    for i in order[:EXAMPLES].tolist():
        own = {method: found[i] for method, found in peaks.items()}
        yield Example(blends[i : i + 1], view.sharp[i], own)


def false_positives(results: Results, method: str) -> dict[str, NDArray[np.bool_]]:
    """Return where a method sees more than one galaxy and should not.

    ``false``: of single galaxies, those with more than one peak where HST's image shows no more
    than one (the rest are clumps that HST resolves as well).  ``split``: of all single galaxies,
    those with more than one peak.  ``false_smooth``: the same of the parametric ones, which have
    neither clumps nor companions.  ``false_blends``: of the blends with one peak at low and at
    high resolution, those with more.  ``false_all``: ``false`` and ``false_blends`` together, as
    the paper's about 1 %.
    """
    singles, blends = results.singles, results.blends
    split = singles.counts[method] > 1
    false = split & (singles.counts[HIGH] <= 1)
    one = (blends.counts[LOW] == 1) & (blends.counts[HIGH] == 1)
    false_blends = blends.counts[method][one] > 1
    return {
        "false": false,
        "split": split,
        "false_smooth": split[~singles.is_real[:, 0]],
        "false_blends": false_blends,
        "false_all": np.concatenate([false, false_blends]),
    }


def make_rows(results: Results) -> list[Row]:
    """Return a row for each method, and one of the photometry."""
    rows = [_method_row(results, name) for name in results.blends.counts]
    return [*rows, *results.photometry.rows(PROTOCOL, results.network)]


def _method_row(results: Results, name: str) -> Row:
    blends = results.blends
    row: Row = {
        "protocol": PROTOCOL,
        "deblender": name,
        "n_galaxies": 2,
        "galaxy": 0,
        "n": len(blends),
        "n_single": len(results.singles),
        **fraction("found", blends.found[name]),
        **fraction("more_than_one", blends.counts[name] > 1),
    }
    for key, hits in false_positives(results, name).items():
        row |= fraction(key, hits) if len(hits) else {}
    ambiguous = (blends.counts[LOW] == 1) & blends.found[HIGH]
    if ambiguous.any():
        row |= fraction("found_ambiguous", blends.found[name][ambiguous])
    row["seconds_per_blend"] = blends.seconds[name]
    return row


_COLUMNS = {
    "found": "both found",
    "more_than_one": "more than one",
    "found_ambiguous": "found of ambiguous",
    "false": "false, single",
    "split": "split, single",
    "false_smooth": "split, smooth",
    "false_blends": "false, one-peak blends",
    "false_all": "false, all",
}


def score_table(results: Results, rows: Sequence[Row]) -> Table:
    """Return the methods with 95 % intervals, and the paper's numbers."""
    header = ["method", "n", *_COLUMNS.values(), "paper: found", "paper: false", "s/blend"]
    lines = [_line(row) for row in rows if "found" in row]
    return Table(header, lines)


def _line(row: Row) -> list[str]:
    name = str(row["deblender"])
    found = f"{PAPER_FOUND[name]:.0%}" if name in PAPER_FOUND else "–"
    false = f"~{PAPER_FALSE:.0%}" if name in PAPER_FOUND and name not in (LOW, HIGH) else "–"
    numbers = [cell(row, key, ".3f") if key in row else "–" for key in _COLUMNS]
    return [name, str(row["n"]), *numbers, found, false, f"{row['seconds_per_blend']:.4f}"]
