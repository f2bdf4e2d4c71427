"""`raydeblend train inputs`: what stamps the shipped networks have learnt from, as a few numbers.

Blends are composed as in the training of `rdn`, `rdn-joint`, `branched` and `vae-deblend`: galaxies
of i < 25.3 behind the PSFs of LSST and HSC, one to four on a stamp; as in that of `rdn-multiband`:
the same and the realistic population, in any of up to six bands; and as in that of `srgan`: up to
three galaxies of one band behind HSC's PSF.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from raydeblend.calibrate.frame import Trained, begin_calibration, card_of, write_trained
from raydeblend.deblend.familiar import (
    STATISTICS,
    TAIL,
    Array,
    Familiar,
    Inputs,
    familiar_from,
    statistics,
    write_inputs,
)
from raydeblend.deblend.peaks import psf_widths
from raydeblend.detect.footprints import gaussian_width
from raydeblend.evaluate.common.tables import Table, to_markdown
from raydeblend.instruments import COUNTERPARTS
from raydeblend.simulate.galaxies import draw_galaxies
from raydeblend.simulate.isolated import render_group
from raydeblend.simulate.isolated_realistic import realistic_group
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.sharp import draw_sharp
from raydeblend.survey import Survey, draw_psf, get_survey, psf_profile
from raydeblend.train.blends import BlendRecipe
from raydeblend.train.data import blends_of
from raydeblend.train.isolated import ISOLATED_SIZE
from raydeblend.train.rdn_multiband import PRESETS as MULTIBAND_PRESETS
from raydeblend.train.srgan import PRESETS as SHARP_PRESETS
from raydeblend.train.srgan_data import draw_low

SURVEYS, BANDS, FAINT = ("LSST", "HSC"), ("g", "r", "i"), 25.3
BLENDERS, SHARPENERS = ("rdn", "rdn-joint", "branched", "vae"), ("srgan", "srflow")
MULTIBAND = ("rdn-multiband",)
"""Deblenders, or shipped weights of one, by what their networks learn from."""
MULTIBAND_RUN = MULTIBAND_PRESETS["small"]
GALAXIES, BLENDS = 40, 60
"""Behind one PSF."""
GROUPS: Mapping[str, int] = {"tiny": 2, "small": 40, "paper": 200}
"""PSFs, by preset; half of each survey."""


def train_inputs(out: str, preset: str = "small", seed: int = 0) -> Trained[Inputs]:
    """Draw stamps, measure, write ``inputs.json`` and ``report.md``.

    Raises
    ------
    ConfigError
        If `preset` is unknown or `out` cannot be written.
    """
    n_groups = begin_calibration(out, preset, GROUPS, seed)
    blends = np.concatenate([training_statistics(seed, k) for k in range(n_groups)])
    multiband = np.concatenate([multiband_statistics(seed, k) for k in range(n_groups)])
    sharp = np.concatenate(list(sharp_statistics(seed, n_groups)))
    seen = {BLENDERS: blends, MULTIBAND: multiband, SHARPENERS: sharp}
    families = tuple(familiar_from(each, names) for names, each in seen.items())
    faint = SHARP_PRESETS["small"].faint
    card = card_of(
        {
            "data": f"blends of {' and '.join(SURVEYS)}, parametric galaxies of i < {FAINT}; "
            "for rdn-multiband half of the realistic population in up to "
            f"{len(MULTIBAND_RUN.bands)} bands; for srgan and srflow of HSC in one band, "
            f"i < {faint}",
            "stamps": sum(map(len, seen.values())),
            "seed": seed,
            "statistics": list(STATISTICS),
        },
        {"within the limit": TAIL},
    )
    report = to_markdown([_table(*each) for each in zip(families, seen.values(), strict=True)])
    return write_trained(out, "inputs.json", Inputs(families, card), write_inputs, report)


def training_statistics(seed: int, number: int) -> Array:
    """Return the statistics of the stamps behind one PSF ``(BLENDS, 5)``."""
    rng = np.random.default_rng([seed, number])
    survey = get_survey(SURVEYS[number % len(SURVEYS)])
    group = render_group(draw_galaxies(GALAXIES, BANDS, rng, FAINT), survey, rng)
    stamps = blends_of(group, BLENDS, BlendRecipe(), int(rng.integers(2**31)))
    return statistics(stamps, psf_widths(group.psf, BLENDS), survey.pixel_scale)


def multiband_statistics(seed: int, number: int) -> Array:
    """Return those of the training of `rdn-multiband`, all in the same bands."""
    # Other draws than those of `training_statistics`.
    run, rng = MULTIBAND_RUN, np.random.default_rng([seed, number, 1])
    survey = get_survey(SURVEYS[number % len(SURVEYS)])
    if rng.random() < run.paper_share:
        group = render_group(draw_galaxies(GALAXIES, BANDS, rng, FAINT), survey, rng)
    else:
        bands = _some_bands(survey, rng)
        train, stamps = np.zeros(GALAXIES, dtype=bool), find_stamps(None, "train")
        group = realistic_group(survey, bands, train, (stamps, stamps), rng, ISOLATED_SIZE, FAINT)
    recipe = replace(BlendRecipe(), close=run.recipe.close)
    drawn = blends_of(group, BLENDS, recipe, int(rng.integers(2**31)))
    return statistics(drawn, psf_widths(group.psf, BLENDS), group.pixel_scale)


def _some_bands(survey: Survey, rng: np.random.Generator) -> tuple[str, ...]:
    """Return the bands of a survey that `rdn-multiband` knows or, as often as in training, some."""
    known = {band.name for band in survey.bands}
    bands = tuple(band for band in MULTIBAND_RUN.bands if band in known)
    if rng.random() >= MULTIBAND_RUN.recipe.fewer_bands:
        return bands
    kept = rng.permutation(len(bands))[: rng.integers(1, len(bands) + 1)]
    return tuple(bands[i] for i in sorted(kept.tolist()))


def sharp_statistics(seed: int, groups: int) -> Iterator[Array]:
    """Yield the statistics of stamps of `srgan`'s training, by seeing ``(m, 5)``.

    At least `BLENDS` for each of the groups.  Their galaxies are the parametric half of those.
    """
    run = SHARP_PRESETS["small"]
    (band,), (scale, _) = run.bands, run.pixel_scale()
    galaxies = draw_sharp(GALAXIES * groups, run.bands, np.random.default_rng(seed))
    survey, name = get_survey("HSC"), COUNTERPARTS[band]
    low, high, steps = run.recipe.seeing
    for number, factor in enumerate(np.linspace(low, high, steps).tolist()):
        recipe = replace(run.recipe, seeing=(factor, factor, 1))
        m = -(-BLENDS * groups // steps)
        stamps = draw_low(galaxies, m, recipe, seed + number)
        fwhm = factor * survey.band(name).psf_fwhm
        psf = draw_psf(psf_profile(survey, name, fwhm), scale)
        yield statistics(stamps, np.full(m, gaussian_width([psf])), scale)


def _table(model: Familiar, seen: Array) -> Table:
    rows = [
        (name, *(f"{value:.3f}" for value in values))
        for name, *values in zip(
            STATISTICS, model.center, model.width, seen.min(axis=0), seen.max(axis=0), strict=True
        )
    ]
    header = ("statistic", "median", "width", "least", "largest")
    names = ", ".join(model.deblenders)
    return Table(header, rows, f"{names}: {len(seen)} training stamps; limit {model.limit:.2f}")
