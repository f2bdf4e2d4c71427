"""`raydeblend train inputs`: what stamps the shipped networks have learnt from, as a few numbers.

Blends are composed as in the training of `rdn`, `rdn-joint`, `branched` and `vae-deblend`: galaxies
of i < 25.3 behind the PSFs of LSST and HSC, one to four on a stamp.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from raydeblend.calibrate.frame import Trained, begin_calibration, card_of, write_trained
from raydeblend.deblend.familiar import (
    STATISTICS,
    TAIL,
    Array,
    Familiar,
    familiar_from,
    statistics,
    write_familiar,
)
from raydeblend.deblend.peaks import psf_widths
from raydeblend.evaluate.common.tables import Table, to_markdown
from raydeblend.simulate.galaxies import draw_galaxies
from raydeblend.simulate.isolated import render_group
from raydeblend.survey import get_survey
from raydeblend.train.blends import BlendRecipe
from raydeblend.train.data import blends_of

SURVEYS, BANDS, FAINT = ("LSST", "HSC"), ("g", "r", "i"), 25.3
DEBLENDERS = ("rdn", "rdn-joint", "branched", "vae")
GALAXIES, BLENDS = 40, 60
"""Behind one PSF."""
GROUPS: Mapping[str, int] = {"tiny": 2, "small": 40, "paper": 200}
"""PSFs, by preset; half of each survey."""


def train_inputs(out: str, preset: str = "small", seed: int = 0) -> Trained[Familiar]:
    """Draw stamps, measure, write ``inputs.json`` and ``report.md``.

    Raises
    ------
    ConfigError
        If `preset` is unknown or `out` cannot be written.
    """
    n_groups = begin_calibration(out, preset, GROUPS, seed)
    seen = np.concatenate([training_statistics(seed, k) for k in range(n_groups)])
    card = card_of(
        {
            "data": f"blends of {' and '.join(SURVEYS)}, parametric galaxies of i < {FAINT}",
            "stamps": len(seen),
            "seed": seed,
            "statistics": list(STATISTICS),
        },
        {"within the limit": TAIL},
    )
    model = familiar_from(seen, DEBLENDERS, card)
    report = to_markdown([_table(model, seen)])
    return write_trained(out, "inputs.json", model, write_familiar, report)


def training_statistics(seed: int, number: int) -> Array:
    """Return the statistics of the stamps behind one PSF ``(BLENDS, 5)``."""
    rng = np.random.default_rng([seed, number])
    survey = get_survey(SURVEYS[number % len(SURVEYS)])
    group = render_group(draw_galaxies(GALAXIES, BANDS, rng, FAINT), survey, rng)
    stamps = blends_of(group, BLENDS, BlendRecipe(), int(rng.integers(2**31)))
    return statistics(stamps, psf_widths(group.psf, BLENDS), survey.pixel_scale)


def _table(model: Familiar, seen: Array) -> Table:
    rows = [
        (name, *(f"{value:.3f}" for value in values))
        for name, *values in zip(
            STATISTICS, model.center, model.width, seen.min(axis=0), seen.max(axis=0), strict=True
        )
    ]
    header = ("statistic", "median", "width", "least", "largest")
    return Table(header, rows, f"{len(seen)} training stamps; limit {model.limit:.2f}")
