"""Fit the shipped galaxy population: ``python -m benchmarks.population ../shared/data/catalogs``.

Gaussian mixtures of COSMOS (every second galaxy by its number, so that the others can test it)
and of CatSim, written to ``raydeblend/simulate/population``.  With ``--check`` nothing is fitted:
what is drawn is printed beside the other half of COSMOS.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from raydeblend import tables
from raydeblend.evaluate.common.tables import markdown
from raydeblend.simulate.population.draw import draw_smooth
from raydeblend.simulate.population.mixture import Mixture

Array = NDArray[np.float64]

OUT = Path(__file__).parent.parent / "raydeblend/simulate/population"
COSMOS, CATSIM = "cosmos_sersic_f814w_23.5.fits", "catsim_onedegsq.fits"
REFF_PIXEL = 0.17
"""Arcsec: 0.17/0.03 is the ratio of the half-light radii of the 60 galaxies that GalSim's own
table of fits (pixels of 0.03") holds too, to a part in a thousand."""
COMPLETE = 23.3
"""In i; the catalog is cut at F814W = 23.5."""
COMPONENTS = {"cosmos": 40, "catsim": 30}
N_RANGE, Q_RANGE = (0.2, 6.0), (0.05, 0.995)


def read_cosmos(folder: Path) -> tuple[Array, Array]:
    """Return ``(n, 6)`` i, log10 r50 (circularised, arcsec), log10 n, logit q, g-r, r-i; and ids.

    Galaxies without all of these are left out.
    """
    t = Table.read(folder / COSMOS)
    g, r, i = (np.asarray(t[f"SUBARU_{b}"], dtype=float) for b in "GRI")
    q, n = (np.asarray(t[name], dtype=float) for name in ("b_a", "sersic_n"))
    radius = REFF_PIXEL * np.asarray(t["reff_pix"], dtype=float) * np.sqrt(q)
    good = (np.minimum(np.minimum(g, r), i) > 0) & (i < COMPLETE) & (n >= N_RANGE[0])
    good &= (q > Q_RANGE[0]) & (q < Q_RANGE[1]) & (radius > 0.02) & (radius < 10)
    # Colors beyond these are faults of one band's photometry.
    good &= (np.abs(g - r - 1) < 1.8) & (np.abs(r - i - 0.6) < 1.2)
    values = [i, np.log10(np.where(good, radius, 1)), np.log10(np.where(good, n, 1))]
    values += [np.log(np.where(good, q, 0.5) / (1 - np.where(good, q, 0.5))), g - r, r - i]
    return np.stack(values, axis=1)[good], np.asarray(t["ID"])[good]


def read_catsim(folder: Path) -> Array:
    """Return ``(n, 7)`` i, u-g, g-r, r-i, i-z, z-y, log10 redshift."""
    t = Table.read(folder / CATSIM)
    m = {b: np.asarray(t[f"{b}_ab"], dtype=float) for b in "ugrizy"}
    colors = [m[a] - m[b] for a, b in zip("ugriz", "grizy", strict=True)]
    values = np.stack([m["i"], *colors, np.log10(np.asarray(t["redshift"]))], axis=1)
    # Dropouts have no u flux to speak of.
    return values[np.abs(values[:, 1]) < 3.5]


def fit(name: str, names: tuple[str, ...], values: Array) -> Mixture:
    """Fit a mixture and write it."""
    model = GaussianMixture(
        COMPONENTS[name], reg_covar=1e-4, n_init=1, max_iter=300, random_state=1
    ).fit(values)
    mixture = Mixture(names, model.weights_, model.means_, model.covariances_)
    (OUT / f"{name}.parquet").write_bytes(tables.to_parquet(mixture.to_table()))
    return mixture


HEADER = ["i", "COSMOS", "r50", "drawn", "n < 0.75", "drawn", "g − r", "drawn", "r − i", "drawn"]
EDGES = (19.0, 20.0, 21.0, 22.0, 22.5, 23.0, 23.2)


def check(folder: Path, n: int = 3000) -> list[list[str]]:
    """Return a row for each bin of i: medians of the odd galaxies of COSMOS beside drawn ones."""
    values, numbers = read_cosmos(folder)
    true = values[numbers % 2 == 1]
    rng = np.random.default_rng(0)
    rows = []
    for low, high in pairwise(EDGES):
        own = true[(true[:, 0] >= low) & (true[:, 0] < high)]
        drawn = draw_smooth(rng.choice(own[:, 0], n), ("g", "r", "i"), rng)
        color = -np.diff(drawn.magnitude, axis=1)
        rows.append(
            [
                f"{low:g}–{high:g}",
                str(len(own)),
                f'{10 ** np.median(own[:, 1]):.2f}"',
                f'{np.median(drawn.r50):.2f}"',
                f"{np.mean(10 ** own[:, 2] < 0.75):.1%}",
                f"{np.mean(drawn.index < 0.75):.1%}",
                f"{np.median(own[:, 4]):.2f}",
                f"{np.median(color[:, 0]):.2f}",
                f"{np.median(own[:, 5]):.2f}",
                f"{np.median(color[:, 1]):.2f}",
            ]
        )
    return rows


def main() -> None:
    """Fit both and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="compare with the other half")
    options = parser.parse_args()
    folder = options.folder
    if options.check:
        print(markdown(HEADER, check(folder)))
        return
    cosmos, numbers = read_cosmos(folder)
    half = cosmos[numbers % 2 == 0]
    fit("cosmos", ("i", "log_r50", "log_n", "logit_q", "g-r", "r-i"), half)
    catsim = read_catsim(folder)
    fit("catsim", ("i", "u-g", "g-r", "r-i", "i-z", "z-y", "log_z"), catsim)
    card = {
        "cosmos": {
            "what": "Gaussian mixture of i (Subaru, AB), log10 r50 (arcsec, circularised), log10 "
            "Sersic index, logit of the axis ratio, g-r and r-i",
            "from": "Sersic fits of COSMOS galaxies of F814W < 23.5 (HST ACS) with Subaru "
            f"photometry, {len(half)} galaxies of i < {COMPLETE} with an even number",
            "components": COMPONENTS["cosmos"],
        },
        "catsim": {
            "what": "Gaussian mixture of i, u-g, g-r, r-i, i-z, z-y (LSST, AB) and log10 redshift",
            "from": f"one square degree of CatSim (LSST DM, OneDegSq), {len(catsim)} galaxies of "
            "i < 27",
            "components": COMPONENTS["catsim"],
        },
        "made_by": "python -m benchmarks.population ../shared/data/catalogs",
    }
    (OUT / "card.json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
