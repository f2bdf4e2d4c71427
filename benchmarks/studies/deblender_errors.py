"""What deblending adds to flux errors: ``python -m benchmarks.studies.deblender_errors TILES``.

Simulated tiles with their truth (``raydeblend simulate tiles``) are detected, deblended and
measured without it, and the parts of `raydeblend.measure.config.ErrorParts` are fitted: those for
which the pulls (F − F_true)/σ have a width (half the central 68 %) of 1 in bins of S/N and
blendedness, as nearly as may be.  ``--check`` fits nothing and takes the parts that are in use.
What stars lack of their light, that beyond the PSF's stamp, is taken off every truth.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.circumstances import circumstances
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.catalogs import read_truth
from raydeblend.evaluate.common.tables import markdown
from raydeblend.fit.stamps import weight_of
from raydeblend.measure.blendedness import blendedness, neighbor_flux
from raydeblend.measure.config import ErrorParts, MeasureConfig
from raydeblend.measure.measure import error_parts, measure_blends
from raydeblend.pipeline.deblended import DeblendedCell
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.ownership import to_sky
from raydeblend.pipeline.preparation import RunRequest, prepare
from raydeblend.pipeline.stages import MODELS, detect_cell

ENGINE, BANDS = "mixture", ("g", "r", "i")
BARE = MeasureConfig(joint_bdf_noise=0.0)
SNR = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0, np.inf)
MATCH = 0.6
"""Arcsec to a source's truth."""
BRIGHT = 100.0
"""Signal to noise of the stars that tell what light is lost."""
FEWEST, MOST = 20, 300
"""Fluxes of a bin that counts, and above which it counts no more."""
Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Fluxes:
    """Fluxes of sources with a truth ``(n, bands)``; and ``(n,)`` what these are.

    Attributes
    ----------
    flux, error, true
        As measured without any part of `ErrorParts`, and the truth.
    neighbors
        See `neighbor_flux`.
    blended
        Blendedness; NaN of what is alone in its footprint.
    star
        Whether it is one.
    """

    flux: Array
    error: Array
    true: Array
    neighbors: Array
    blended: Array
    star: Bools

    @classmethod
    def join(cls, several: list[Fluxes]) -> Fluxes:
        """Return all of them as one."""
        return cls(*map(np.concatenate, zip(*map(_values, several), strict=True)))

    @property
    def snr(self) -> Array:
        """True flux over error, ``(n, bands)``."""
        return self.true / self.error

    def without_lost_light(self) -> Fluxes:
        """Return them with truths that lack what bright stars that are alone lack of theirs."""
        known = (self.star & np.isnan(self.blended))[:, None] & (self.snr > BRIGHT)
        kept = float(np.median((self.flux / self.true)[known])) if known.any() else 1.0
        return Fluxes(self.flux, self.error, kept * self.true, *_values(self)[3:])

    def pulls(self, parts: ErrorParts) -> Array:
        """Return the pulls ``(n, bands)`` with such parts in the errors."""
        own = np.where(np.isnan(self.blended), parts.own, parts.own_in_blend)[:, None]
        squares = (parts.neighbors * self.neighbors) ** 2 + (own * self.flux) ** 2
        return (self.flux - self.true) / np.sqrt(self.error**2 + squares)

    def kinds(self) -> dict[str, Bools]:
        """Return by name which sources ``(n,)`` are blended how much."""
        alone = np.isnan(self.blended)
        edges = {"below 0.05": (-np.inf, 0.05), "to 0.2": (0.05, 0.2), "above": (0.2, np.inf)}
        among = {
            k: ~alone & (a <= self.blended) & (self.blended < b) for k, (a, b) in edges.items()
        }
        return {"alone": alone, **among}

    def bins(self) -> Iterator[tuple[str, tuple[float, float], Bools]]:
        """Yield the bins of fluxes ``(n, bands)``: blendedness, S/N, and which are in it."""
        for name, rows in self.kinds().items():
            for low, high in pairwise(SNR):
                yield name, (low, high), rows[:, None] & (self.snr > low) & (self.snr <= high)


def _values(fluxes: Fluxes) -> list[NDArray[np.generic]]:
    return list(vars(fluxes).values())


def main() -> None:
    """Fit the parts of each deblender and print the widths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiles", nargs="+", help="folders as SURVEY=FOLDER")
    parser.add_argument("--deblender", nargs="+", default=["rdn", "branched", "vae", "sep"])
    parser.add_argument("--check", action="store_true", help="the parts that are in use")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(circumstances(), flush=True)
    for name in options.deblender:
        folders = [folder.split("=", 1) for folder in options.tiles]
        fluxes = Fluxes.join([measure(name, *each).without_lost_light() for each in folders])
        own = error_parts(ENGINE, MODELS[ENGINE], True, name) if options.check else fit(fluxes)
        print(f"\n{name}: {own}")
        header = ["blendedness", *(f"S/N {low:g}–{high:g}" for low, high in pairwise(SNR))]
        print(markdown(header, list(lines(fluxes, own))), flush=True)


def measure(deblender: str, survey: str, folder: str) -> Fluxes:
    """Return the fluxes of the sources on all tiles of a folder."""
    config = CatalogConfig(BANDS, survey=survey, deblender=deblender, inject=0.0)
    ready = prepare(folder, f"{folder}/none", config, RunRequest(), lambda: None)
    stage, truth = DeblendCell(ready.config), read_truth(folder)
    cells = [stage(detect_cell(ready.plan.task(i), ready.config)) for i in range(len(ready.plan))]
    return Fluxes.join([_of_cell(cell, truth) for cell in cells])


def _of_cell(cell: DeblendedCell, truth: pa.Table) -> Fluxes:
    """Measure the sources of a cell that are the nearest to a truth, as this is to them."""
    detected, parts = cell.detected, cell.parts
    header = detected.task.cell.tile
    found = measure_blends(
        detected.blends,
        [part.models for part in parts],
        [part.xy for part in parts],
        [detected.psf_of(blend) for blend in detected.blends],
        header.pixel_scale,
        ENGINE,
        model=MODELS[ENGINE],
        config=BARE,
    )
    pairs = list(zip(detected.blends, parts, strict=True))
    xy = np.concatenate([blend.on_tile(part.xy) for blend, part in pairs])
    under = [neighbor_flux(part.models, weight_of(blend)) for blend, part in pairs]
    alone, several = np.array([np.nan]), [len(part.xy) > 1 for part in parts]
    blended = [
        blendedness(part.models) if more else alone
        for part, more in zip(parts, several, strict=True)
    ]
    sky, true = to_sky(header, xy), SkyCoord(truth["ra"], truth["dec"], unit="deg")
    nearest, apart, _ = sky.match_to_catalog_sky(true)
    back, _, _ = true.match_to_catalog_sky(sky)
    own = (apart.arcsec < MATCH) & (back[nearest] == np.arange(len(sky)))
    flux, error = (
        np.concatenate([getattr(m, name) for m in found]) for name in ("flux", "flux_err")
    )
    own &= np.isfinite(flux / error).all(axis=1)
    true_flux = np.stack([truth[f"flux_{band}"].to_numpy() for band in BANDS], axis=1)[nearest]
    values = (flux, error, true_flux, np.concatenate(under), np.concatenate(blended))
    stars = truth["is_star"].to_numpy(zero_copy_only=False)[nearest]
    return Fluxes(*(each[own] for each in (*values, stars)))


def fit(fluxes: Fluxes) -> ErrorParts:
    """Return the parts with which the widths are nearest to 1."""
    chosen = [inside for _, _, inside in fluxes.bins() if inside.sum() >= FEWEST]

    def cost(logs: Array) -> float:
        pulls = fluxes.pulls(ErrorParts(*np.exp(logs)))
        return sum(min(own.sum(), MOST) * np.log(width(pulls[own])) ** 2 for own in chosen)

    found = minimize(cost, np.log([0.1, 0.005, 0.01]), method="Nelder-Mead")
    return ErrorParts(*np.exp(found.x).round(4).tolist())


def width(pulls: Array) -> float:
    """Return half the width of the central 68 %."""
    low, high = np.percentile(pulls, (15.865, 84.135))
    return float(high - low) / 2


def lines(fluxes: Fluxes, parts: ErrorParts) -> Iterator[list[str]]:
    """Yield the lines of the table."""
    pulls = fluxes.pulls(parts)
    cells: dict[str, list[str]] = defaultdict(list)
    for name, _, inside in fluxes.bins():
        count = int(inside.sum())
        cells[name].append(f"{width(pulls[inside]):.2f} ({count})" if count >= FEWEST else "")
    for name, own in cells.items():
        yield [name, *own]


if __name__ == "__main__":
    main()
