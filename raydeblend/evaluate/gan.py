"""Protocol `gan`: whether drawn galaxies are like real ones (Hemmati et al. 2022, section 3).

The paper shows a grid of samples.  Here the same number of samples and of galaxies, none of which
was trained on, are measured alike under the same sky, and each quantity's two distributions
compared by the Kolmogorov-Smirnov test.  One pair of samples in twenty fails that test though
both are of one population; so it is repeated, and its median counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from raydeblend import access
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.common.tables import Table
from raydeblend.measure.distributions import QUANTITIES, Distributions, measure_distributions
from raydeblend.networks.forward import choose_device
from raydeblend.networks.gan import sample
from raydeblend.networks.weights import load_weights, one_network, weights_path
from raydeblend.simulate.sharp import REAL
from raydeblend.simulate.sky_stamps import (
    DRAWN_PER_REAL,
    SPLIT,
    SkyStamps,
    StampConfig,
    draw_stamps,
)

Floats = NDArray[np.floating]
Row = Mapping[str, str | int | float]

DEFAULT_N = 200
"""Galaxies of a sample."""
SIGNIFICANT = 0.05
"""Probability below which two samples are called different."""
PAIRS = 10
"""Pairs of samples that are compared."""
TEST_SEED = 1_000_003
"""Added to the training's seed, so that no drawn galaxy was trained on."""
TEST_EXCESS = 12
"""One image in eight is of a galaxy for tests; half more, since so few galaxies scatter."""
GRID = 6
STRETCH = 8.0
"""Softening of the pictures in sky sigmas."""


@dataclass(frozen=True)
class Drawn:
    """Samples of galaxies.

    Attributes
    ----------
    images
        ``(pairs, n, y, x)`` in sky sigmas.
    measured
        Of each sample, what was measured: ``(m,)`` by quantity, m <= n.
    """

    images: Floats
    measured: tuple[Distributions, ...]

    def all(self, quantity: str) -> Floats:
        """Return the values of all samples together."""
        return np.concatenate([each[quantity] for each in self.measured])


def draw_generated(
    n: int, seed: int, weights: str = "gan", pairs: int = PAIRS
) -> tuple[Drawn, StampConfig]:
    """Draw samples of `n` galaxies of a generator, and say what stamps it was trained on.

    `weights` is a shipped name or a file.  A generator of galaxies without noise gets the sky's.

    Raises
    ------
    ConfigError
        If the weights are missing or damaged.
    """
    device = choose_device("cpu")
    network, card = load_weights(weights_path(weights), device)
    images = card.scaling.invert(sample(network, n * pairs, seed, device))[:, 0].numpy()
    if card.training.get("sky"):
        rng = np.random.default_rng(seed)
        images = images + rng.standard_normal(images.shape, dtype=np.float32)
    trained = StampConfig(
        bands=tuple(card.bands),
        size=int(card.architecture["size"]),
        n_galaxies=int(card.training["n_galaxies"]),
        faint=float(card.training["faint"]),
        seed=int(card.training["seed"]),
        data=None,
    )
    return measure(images.reshape(pairs, n, *images.shape[1:])), trained


def draw_real(
    n: int, seed: int, trained: StampConfig, data: str | None, pairs: int = PAIRS
) -> Drawn:
    """Return samples of `n` galaxies as the generator was trained on, none of them trained on.

    Drawn galaxies are new ones, and others in each sample.  Of the real ones in `data` only those
    for tests are shown, in the proportion that the training had; they are few and the same in all
    samples, each time turned and under another sky.
    """
    rng = np.random.default_rng(seed)
    n_real = 0 if data is None else round(n / (DRAWN_PER_REAL + 1))
    drawn, real = _test_stamps((n - n_real) * pairs, n_real, seed, trained, data)
    samples = []
    for rows in np.split(np.arange(len(drawn)), pairs):
        chosen = rng.permutation(len(real))[:n_real]
        images = [drawn.take(rows).under_sky(rng), real.take(chosen).under_sky(rng)]
        samples.append(np.concatenate(images)[:, 0])
    return measure(np.stack(samples))


def _test_stamps(
    n_drawn: int, n_real: int, seed: int, trained: StampConfig, data: str | None
) -> tuple[SkyStamps, SkyStamps]:
    """Return `n_drawn` new drawn galaxies and at least `n_real` images of real ones for tests."""
    n_galaxies = max(n_drawn, DRAWN_PER_REAL * TEST_EXCESS * n_real)
    config = StampConfig(
        trained.bands, trained.size, n_galaxies, trained.faint, TEST_SEED + seed, data
    )
    stamps = draw_stamps(config)
    is_real = stamps.galaxy >= REAL
    real = stamps.take(is_real).part("test")
    if n_real and not len(real):
        raise ConfigError(f"{data} holds no galaxy for tests, whose number {SPLIT} divides")
    return stamps.take(np.flatnonzero(~is_real)[:n_drawn]), real


def measure(images: Floats) -> Drawn:
    """Measure each image of samples ``(pairs, n, y, x)``."""
    return Drawn(images, tuple(measure_distributions(sample) for sample in images))


def compare(generated: Drawn, real: Drawn) -> list[Row]:
    """Return a row for each quantity: medians, spreads, KS distance and its probability.

    The latter two are medians over the pairs of samples; `alike` is the part of the pairs that
    the test cannot tell apart, 0.95 for samples of one population.
    """
    return [_row(name, generated, real) for name in QUANTITIES]


def _row(name: str, generated: Drawn, real: Drawn) -> Row:
    pairs = zip(generated.measured, real.measured, strict=True)
    tests = [ks_2samp(ours[name], theirs[name]) for ours, theirs in pairs]
    probability = np.array([test.pvalue for test in tests])
    ours, theirs = generated.all(name), real.all(name)
    return {
        "protocol": "gan",
        "quantity": name,
        "pairs": len(tests),
        "n_generated": len(ours) // len(tests),
        "n_real": len(theirs) // len(tests),
        "median_generated": float(np.median(ours)),
        "median_real": float(np.median(theirs)),
        "std_generated": float(np.std(ours)),
        "std_real": float(np.std(theirs)),
        "ks_distance": float(np.median([test.statistic for test in tests])),
        "ks_probability": float(np.median(probability)),
        "alike": float(np.mean(probability >= SIGNIFICANT)),
    }


def comparison_table(rows: Sequence[Row]) -> Table:
    """Return a line for each quantity."""
    header = ("quantity", "generated", "real", "KS distance", "probability", "pairs alike", "alike")
    return Table(header, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    spread = [f"{row[f'median_{k}']:.2f} ({row[f'std_{k}']:.2f})" for k in ("generated", "real")]
    alike = "yes" if float(row["ks_probability"]) >= SIGNIFICANT else "no"
    distance, probability = f"{row['ks_distance']:.3f}", f"{row['ks_probability']:.2g}"
    pairs = f"{float(row['alike']):.0%} of {row['pairs']}"
    return (str(row["quantity"]), *spread, distance, probability, pairs, alike)


def distribution_figure(generated: Drawn, real: Drawn, rows: Sequence[Row]) -> bytes:
    """Draw the two distributions of each quantity."""
    figure = Figure(figsize=(9, 5.2), dpi=DPI, layout="constrained")
    for axes, row in zip(figure.subplots(2, 3).flat, rows, strict=True):
        name = str(row["quantity"])
        values = generated.all(name), real.all(name)
        low, high = np.percentile(np.concatenate(values), [0.5, 99.5])
        bins = np.linspace(float(low), float(high), 24)
        axes.hist(values[1], bins, density=True, color="0.75", label="real")
        axes.hist(
            values[0], bins, density=True, histtype="step", color="C3", lw=1.6, label="generated"
        )
        axes.set_xlabel(QUANTITIES[name])
        axes.set_ylabel("density")
        axes.set_title(f"KS probability {row['ks_probability']:.2g}", fontsize=9)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return to_png(figure, "Distributions of generated and of real galaxies, measured alike.")


def sample_figure(generated: Drawn, real: Drawn) -> bytes:
    """Draw real and generated galaxies side by side."""
    figure = Figure(figsize=(9, 4.7), dpi=DPI, layout="constrained")
    halves = figure.subfigures(1, 2, squeeze=False).flat
    for part, drawn, title in zip(halves, (real, generated), ("real", "generated"), strict=True):
        part.suptitle(title, fontsize=11)
        grid = part.subplots(GRID, GRID, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
        first = drawn.images[0]
        shown = np.linspace(0, len(first) - 1, GRID**2).astype(int)
        for axes, image in zip(grid.flat, first[shown], strict=True):
            axes.imshow(np.arcsinh(image / STRETCH), "gray", origin="lower", vmin=-0.3, vmax=4)
            axes.set_axis_off()
    caption = (
        "Galaxies that were not trained on (three quarters drawn; the last rows, where there are "
        "real ones, HST's) and generated ones, 3.8\" a side, arcsinh of the sky noise."
    )
    return to_png(figure, caption)


def run(request: Request) -> Report:
    """Draw generated and real galaxies, compare, and report."""
    n = request.n or DEFAULT_N
    generated, trained = draw_generated(n, request.seed, one_network(request.weights, "gan"))
    access.check_writable(request.out)
    real = draw_real(n, request.seed, trained, request.data)
    rows = compare(generated, real)
    figures = {
        "distributions.png": distribution_figure(generated, real, rows),
        "samples.png": sample_figure(generated, real),
    }
    return Report(rows, [comparison_table(rows)], figures)
