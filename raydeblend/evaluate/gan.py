"""Protocol `gan`: whether drawn galaxies are like real ones (Hemmati et al. 2022, section 3).

The paper shows a grid of samples.  Here the same number of samples and of real galaxies, none of
which was trained on, are measured alike, and each quantity's two distributions compared by the
Kolmogorov-Smirnov test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from raydeblend.evaluate.figures import DPI, to_png
from raydeblend.evaluate.tables import markdown
from raydeblend.measure.morphology import measure_morphology
from raydeblend.networks.forward import choose_device
from raydeblend.networks.gan import sample
from raydeblend.networks.weights import load_weights, shipped_path
from raydeblend.simulate.sky_stamps import REAL_ID, StampConfig, draw_stamps, held_out

Floats = NDArray[np.floating]
Row = Mapping[str, str | int | float]

QUANTITIES: Mapping[str, str] = {
    "flux": "log10 flux (sky sigmas)",
    "half_light": "log10 half-light radius (pixels)",
    "ellipticity": "ellipticity 1 - b/a",
    "concentration": "concentration 5 log10(r80/r20)",
    "gini": "Gini coefficient",
    "m20": "M20",
}
LOGARITHMIC = ("flux", "half_light")
SIGNIFICANT = 0.05
"""Probability below which two samples are called different."""
TEST_SEED = 1_000_003
"""Added to the training's seed, so that no drawn galaxy was trained on."""
GRID = 6
STRETCH = 8.0
"""Softening of the pictures in sky sigmas."""


@dataclass(frozen=True)
class Drawn:
    """Images ``(n, y, x)`` in sky sigmas, and what was measured, ``(m,)`` by quantity, m <= n."""

    images: Floats
    measured: Mapping[str, Floats]


def draw_generated(n: int, seed: int, weights: str = "gan") -> tuple[Drawn, StampConfig]:
    """Draw `n` samples of the shipped generator, and say what stamps it was trained on.

    Raises
    ------
    ConfigError
        If the weights are missing or damaged.
    """
    device = choose_device("cpu")
    network, card = load_weights(shipped_path(weights), device)
    images = card.scaling.invert(sample(network, n, seed, device))[:, 0].numpy()
    trained = StampConfig(
        bands=tuple(card.bands),
        size=int(card.architecture["size"]),
        n_galaxies=int(card.training["n_galaxies"]),
        faint=float(card.training["faint"]),
        seed=int(card.training["seed"]),
        data=None,
    )
    return measure(images), trained


def draw_real(n: int, seed: int, trained: StampConfig, data: str | None) -> Drawn:
    """Return `n` galaxies as the generator was trained on, none of them trained on.

    Drawn galaxies are new ones; of the real stamps in `data` only those kept for validation
    are used, in the proportion that the training had.
    """
    config = StampConfig(trained.bands, trained.size, n, trained.faint, TEST_SEED + seed, data)
    images, galaxy = draw_stamps(config)
    hubble = galaxy >= REAL_ID
    kept = np.flatnonzero(hubble & held_out(galaxy))
    n_hubble = round(n * hubble.sum() / (hubble.sum() + trained.n_galaxies))
    rng = np.random.default_rng(seed)
    real = rng.choice(kept, min(n_hubble, len(kept)), replace=False)
    rows = np.concatenate([np.flatnonzero(~hubble)[: n - len(real)], real])
    return measure(images[rows, 0].astype(np.float32))


def measure(images: Floats) -> Drawn:
    """Measure each image ``(n, y, x)``; those that show no source are left out."""
    found = [m for m in map(measure_morphology, images) if m is not None]
    columns = {name: np.array([asdict(m)[name] for m in found]) for name in QUANTITIES}
    for name in LOGARITHMIC:
        columns[name] = np.log10(columns[name])
    return Drawn(images, columns)


def compare(generated: Drawn, real: Drawn) -> list[Row]:
    """Return a row for each quantity: medians, spreads, KS distance and its probability."""
    return [_row(name, generated, real) for name in QUANTITIES]


def _row(name: str, generated: Drawn, real: Drawn) -> Row:
    ours, theirs = generated.measured[name], real.measured[name]
    test = ks_2samp(ours, theirs)
    return {
        "protocol": "gan",
        "quantity": name,
        "n_generated": len(ours),
        "n_real": len(theirs),
        "median_generated": float(np.median(ours)),
        "median_real": float(np.median(theirs)),
        "std_generated": float(np.std(ours)),
        "std_real": float(np.std(theirs)),
        "ks_distance": float(test.statistic),
        "ks_probability": float(test.pvalue),
    }


def comparison_table(rows: Sequence[Row]) -> str:
    """Return the comparison as Markdown."""
    header = ("quantity", "generated", "real", "KS distance", "probability", "alike")
    return markdown(header, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    spread = [f"{row[f'median_{k}']:.2f} ({row[f'std_{k}']:.2f})" for k in ("generated", "real")]
    alike = "yes" if float(row["ks_probability"]) >= SIGNIFICANT else "no"
    distance, probability = f"{row['ks_distance']:.3f}", f"{row['ks_probability']:.2g}"
    return (str(row["quantity"]), *spread, distance, probability, alike)


def distribution_figure(generated: Drawn, real: Drawn, rows: Sequence[Row]) -> bytes:
    """Draw the two distributions of each quantity."""
    figure = Figure(figsize=(9, 5.2), dpi=DPI, layout="constrained")
    for axes, row in zip(figure.subplots(2, 3).flat, rows, strict=True):
        name = str(row["quantity"])
        values = generated.measured[name], real.measured[name]
        low, high = np.percentile(np.concatenate(values), [0.5, 99.5])
        bins = np.linspace(float(low), float(high), 24)
        axes.hist(values[1], bins, color="0.75", label="real")
        axes.hist(values[0], bins, histtype="step", color="C3", lw=1.6, label="generated")
        axes.set_xlabel(QUANTITIES[name])
        axes.set_ylabel("galaxies")
        axes.set_title(f"KS probability {row['ks_probability']:.2g}", fontsize=9)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return to_png(figure, "Distributions of generated and of real galaxies, measured alike.")


def sample_figure(generated: Drawn, real: Drawn) -> bytes:
    """Draw real galaxies beside generated ones."""
    figure = Figure(figsize=(9, 4.9), dpi=DPI, layout="constrained")
    halves = figure.subfigures(1, 2, squeeze=False).flat
    for part, drawn, title in zip(halves, (real, generated), ("real", "generated"), strict=True):
        part.suptitle(title, fontsize=11)
        grid = part.subplots(GRID, GRID, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
        shown = np.linspace(0, len(drawn.images) - 1, GRID**2).astype(int)
        for axes, image in zip(grid.flat, drawn.images[shown], strict=True):
            axes.imshow(np.arcsinh(image / STRETCH), "gray", origin="lower", vmin=-0.3, vmax=4)
            axes.set_axis_off()
    return to_png(figure, 'Real and generated galaxies, 3.8" a side, arcsinh of the sky noise.')
