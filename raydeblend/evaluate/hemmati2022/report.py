"""`raydeblend evaluate hemmati2022`: networks and deblenders in, tables and figures out."""

from __future__ import annotations

from raydeblend import access
from raydeblend.deblend import load_deblender
from raydeblend.deblend.srgan.deblender import SrganDeblender
from raydeblend.deblend.srgan.srflow import SrflowDeblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.hemmati2022.figures import draw_figures
from raydeblend.evaluate.hemmati2022.photometry import photometry_table
from raydeblend.evaluate.hemmati2022.samples import sample_rows, sample_tables, score_samples
from raydeblend.evaluate.hemmati2022.samples_figure import samples_figure
from raydeblend.evaluate.hemmati2022.scores import (
    DEFAULT_N,
    PROTOCOL,
    evaluate_hemmati2022,
    make_rows,
    score_table,
)
from raydeblend.instruments import HST_BANDS
from raydeblend.networks.weights import one_network
from raydeblend.simulate.sharp_blends import SharpTest, read_real
from raydeblend.tile import Deblender

SINGLE, MULTI, FLOW = "srgan", "srgan-multiband", "srflow"
BANDS = {1: ("F775W",), len(HST_BANDS): HST_BANDS}


def run(request: Request) -> Report:
    """Evaluate the network of one or seven bands, and the deblenders on the i band.

    Of a folder of real HST stamps those kept out of training are used; without one, parametric
    galaxies only.

    Raises
    ------
    ConfigError
        If there is no network of that many bands, or a deblender or folder is unknown.
    """
    bands = 1 if request.bands is None else request.bands
    networks = load_networks(bands, request.weights, FLOW in request.chosen)
    # The network's candidates, confirmed by the pixels, come from the deblender of its name.
    beside: dict[str, Deblender] = dict(networks)
    beside |= {name: load_deblender(name) for name in request.chosen if name not in networks}
    access.check_writable(request.out)
    real = read_real(request.data) if request.data is not None else None
    test = SharpTest(request.n or DEFAULT_N, bands=BANDS[bands], real=real, seed=request.seed)
    results = evaluate_hemmati2022(networks, beside, test)
    rows = make_rows(results)
    tables = [score_table(results, rows), photometry_table(results.photometry, rows)]
    figures = draw_figures(results, request.seed)
    main = networks[results.network]
    if isinstance(main, SrflowDeblender):
        others = {name: network for name, network in networks.items() if network is not main}
        scores = score_samples(main, others, test)
        rows += sample_rows(scores, main.name)
        tables += sample_tables(scores, rows)
        figures["samples.png"] = samples_figure(main, results.examples)
    return Report(rows, tables, figures)


def load_networks(
    bands: int, weights: str | None = None, flow: bool = False
) -> dict[str, SrganDeblender]:
    """Return the network of that many bands by name, or the flow.

    The shipped network of one band is added to the flow and to the network of seven bands.

    Raises
    ------
    ConfigError
        If there is none, or it has no weights.
    """
    if bands not in BANDS:
        known = " or ".join(map(str, BANDS))
        raise ConfigError(f"{PROTOCOL} knows networks of {known} bands, not of {bands}")
    if flow and bands != 1:
        raise ConfigError(f"{FLOW} has one band, not {bands}")
    if flow:
        own = SrflowDeblender.load(weights=one_network(weights, FLOW))
        return {FLOW: own, SINGLE: SrganDeblender.load()}
    if bands == 1:
        return {SINGLE: SrganDeblender.load(weights=one_network(weights, SINGLE))}
    multi = SrganDeblender.load(weights=one_network(weights, MULTI))
    return {MULTI: multi, SINGLE: SrganDeblender.load()}
