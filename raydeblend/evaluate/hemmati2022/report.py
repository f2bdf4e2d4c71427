"""`raydeblend evaluate hemmati2022`: networks and deblenders in, tables and figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raydeblend import storage
from raydeblend.deblend import load_deblender
from raydeblend.deblend.srgan.deblender import SrganDeblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.common.tables import Table
from raydeblend.evaluate.hemmati2022.figures import draw_figures
from raydeblend.evaluate.hemmati2022.photometry import photometry_table
from raydeblend.evaluate.hemmati2022.scores import (
    DEFAULT_N,
    PROTOCOL,
    Results,
    evaluate_hemmati2022,
    make_rows,
    score_table,
)
from raydeblend.instruments import HST_BANDS
from raydeblend.networks.weights import shipped_path
from raydeblend.simulate.sharp_blends import SharpTest, read_real
from raydeblend.tile import Deblender

SINGLE, MULTI = "srgan", "srgan-multiband"
BANDS = {1: ("F775W",), len(HST_BANDS): HST_BANDS}


def report_hemmati2022(
    deblenders: Sequence[str], data: str | None, n: int | None, out: str, seed: int, bands: int
) -> tuple[list[Row], list[Table], Mapping[str, bytes]]:
    """Evaluate and return rows, tables and figures.

    Parameters
    ----------
    deblenders
        Scored beside the network, on the i band.
    data
        Folder of real HST stamps, of which those kept out of training are used; None: parametric
        galaxies only.
    bands
        1 or 7 of the network.

    Raises
    ------
    ConfigError
        If there is no network of so many bands, or a deblender or folder is unknown.
    """
    networks = load_networks(bands)
    # The network's candidates told apart by the pixels come from the deblender of its name.
    beside: dict[str, Deblender] = dict(networks)
    beside |= {name: load_deblender(name) for name in deblenders if name not in networks}
    storage.check_writable(out)
    real = read_real(data) if data is not None else None
    test = SharpTest(n or DEFAULT_N, bands=BANDS[bands], real=real, seed=seed)
    results = evaluate_hemmati2022(networks, beside, test)
    rows = make_rows(results)
    return rows, tables(results, rows), draw_figures(results, seed)


def load_networks(bands: int) -> dict[str, SrganDeblender]:
    """Return the network of so many bands by name; of seven, with that of one beside.

    Raises
    ------
    ConfigError
        If there is none, or it has no weights.
    """
    if bands not in BANDS:
        known = " or ".join(map(str, BANDS))
        raise ConfigError(f"{PROTOCOL} knows networks of {known} bands, not of {bands}")
    if bands == 1:
        return {SINGLE: SrganDeblender.load()}
    return {MULTI: SrganDeblender.load(weights=shipped_path(MULTI)), SINGLE: SrganDeblender.load()}


def tables(results: Results, rows: Sequence[Row]) -> list[Table]:
    """Return the scores and the photometry."""
    return [score_table(results, rows), photometry_table(results.photometry, rows)]
