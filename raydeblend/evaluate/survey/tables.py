"""Tables of the protocol `survey`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raydeblend.evaluate.common.calibration import calibration, calibration_table
from raydeblend.evaluate.common.rows import Row, cell
from raydeblend.evaluate.common.tables import Table
from raydeblend.evaluate.survey.rows import (
    ALL,
    BLENDEDNESS,
    DEPTH,
    MAGNITUDE,
    PAIRS,
    QUALITY,
    QUALITY_DEPTH,
    SEPARATION,
    SHAPE_DEPTH,
    STARS,
)
from raydeblend.evaluate.survey.run import SurveyScores
from raydeblend.evaluate.survey.scores import FAR_ERROR, FAR_PULL, NEIGHBOR_FLUX
from raydeblend.evaluate.survey.stars import NEIGHBORS
from raydeblend.evaluate.survey.unrecognized import RADIUS

_SOURCE = {
    "found": ("complete", ".1%"),
    "spurious": ("spurious", ".1%"),
    "duplicates": ("duplicates", ".2%"),
    "unrecognized": ("unrecognized blends", ".1%"),
    "flux_bias": ("flux bias", "+.3f"),
    "flux_nmad": ("scatter", ".3f"),
    "pull_nmad": ("pull width", ".2f"),
    "beyond_5_sigma": ("> 5σ", ".1%"),
    "catastrophic": ("catastrophic", ".1%"),
    "catastrophic_unflagged": ("without a flag", ".1%"),
}
_QUALITY = {
    "flux_bias": ("flux bias", "+.3f"),
    "flux_nmad": ("scatter", ".3f"),
    "pull_nmad": ("pull width", ".2f"),
    "catastrophic": ("catastrophic", ".1%"),
    "catastrophic_unflagged": ("without a flag", ".1%"),
}
_STARS = {
    "found": ("found", ".1%"),
    "one_row": ("exactly one row", ".1%"),
    "flagged": ("flagged", ".1%"),
    "flux_bias": ("flux bias", "+.3f"),
    "neighbor_found": ("galaxies beside: found", ".1%"),
    "neighbor_catastrophic": ("catastrophic", ".1%"),
}
_BLEND = {
    "found": ("complete", ".1%"),
    "flux_bias": ("flux bias", "+.3f"),
    "flux_nmad": ("scatter", ".3f"),
    "flux_mape": ("mape", ".3f"),
    "catastrophic": ("catastrophic", ".1%"),
    "catastrophic_unflagged": ("without a flag", ".1%"),
    "pull_bias": ("pull median", "+.2f"),
    "pull_nmad": ("pull scatter", ".2f"),
}
_SHAPES = {
    "offset_east_mas": ("east (mas)", "+.1f"),
    "offset_north_mas": ("north (mas)", "+.1f"),
    "position_nmad_mas": ("scatter (mas)", ".1f"),
    "shape_m1": ("m1", "+.3f"),
    "shape_c1": ("c1", "+.4f"),
    "shape_m2": ("m2", "+.3f"),
    "shape_c2": ("c2", "+.4f"),
}


def survey_tables(rows: Sequence[Row], scores: Sequence[SurveyScores], band: str) -> list[Table]:
    """Return all tables; fluxes are those of the reference band `band`."""
    in_band = [_in_band(row, band) for row in rows]
    return [
        Table(
            *_cells(in_band, (MAGNITUDE, ALL), _SOURCE),
            "Survey by magnitude",
            (
                f"By magnitude in {band}; the last row of each deblender is over {band} < {DEPTH}. "
                "An unrecognized blend is a detection that holds another true source of "
                f'{NEIGHBOR_FLUX:.0%} of its flux or more within {RADIUS:g}". Spurious: no true '
                f"source of its own. Catastrophic: wrong by more than {FAR_PULL:g} stated errors "
                f"and by more than {FAR_ERROR:.0%}, of those measured. After ± half of the 95 % "
                "interval:",
            ),
        ),
        Table(
            *_cells(in_band, (BLENDEDNESS,), _BLEND),
            "Survey by blendedness",
            (
                f"Galaxies of {band} < {DEPTH} by true blendedness, and whether flux errors are "
                "right (pull: error over stated error, whose scatter should be 1):",
            ),
        ),
        Table(
            *_cells(in_band, (SEPARATION,), _BLEND),
            "Survey by distance to a neighbor",
            (f"The same by distance to the nearest source of {NEIGHBOR_FLUX:.0%} of its flux:",),
        ),
        Table(
            *_cells(in_band, (QUALITY,), _QUALITY),
            "Survey by quality",
            (
                f"Matched galaxies of {band} < {QUALITY_DEPTH:g} by the quality that the catalog "
                "states:",
            ),
        ),
        *_extra(in_band),
        Table(
            *_cells(in_band, (ALL,), _SHAPES),
            "Survey positions and shapes",
            (
                f"Positions ({band} < {DEPTH}), shapes ({band} < {SHAPE_DEPTH}): "
                "g = (1 + m) g_true + c:",
            ),
        ),
        *(_calibration(score) for score in scores),
        *(_bad_calibration(score) for score in scores),
    ]


def _extra(rows: Sequence[Row]) -> list[Table]:
    """Return the tables of close pairs and of stars, where these were drawn."""
    words = {
        PAIRS: (_BLEND, "Close pairs", "Pairs of a flux ratio above a tenth, far from others:"),
        STARS: (
            _STARS,
            "Bright stars",
            f'Stars, and galaxies {NEIGHBORS[0]:g} to {NEIGHBORS[1]:g}" beside them:',
        ),
    }
    return [
        Table(*_cells(rows, (by,), columns), title, (sentence,))
        for by, (columns, title, sentence) in words.items()
        if any(row["n_galaxies"] == by for row in rows)
    ]


def _in_band(row: Row, band: str) -> Row:
    """Give the columns of the reference band their short names."""
    end = f"_{band}"
    return row | {
        key.replace(end, ""): value
        for key, value in row.items()
        if key.startswith("pull") and end in key
    }


def _cells(
    rows: Sequence[Row], kinds: Sequence[str], columns: dict[str, tuple[str, str]]
) -> tuple[list[str], list[list[str]]]:
    """Return header and lines of the rows of some kinds."""
    chosen = [row for row in rows if row["n_galaxies"] in kinds]
    header = ["deblender", "galaxies", "n", *(title for title, _ in columns.values())]
    lines = [
        [
            str(row["deblender"]),
            str(row["galaxy"]),
            str(row["n"]),
            *(_cell(row, name, spec) for name, (_, spec) in columns.items()),
        ]
        for row in chosen
    ]
    return header, lines


def _cell(row: Row, name: str, spec: str) -> str:
    return cell(row, name, spec) if name in row else "–"


def _calibration(score: SurveyScores) -> Table:
    """Return stated and true fractions of unrecognized blends among the matched detections."""
    title = "Survey calibration of p_unrecognized_blend"
    real = score.detections.take(score.detections.pure)
    result = calibration(real.probability, real.unrecognized)
    if not result.n:
        words = f"{score.deblender} states no p_unrecognized_blend."
        return Table((), (), title, before=(words,))
    return replace(calibration_table(result), title=title, before=(f"{score.deblender}:",))


def _bad_calibration(score: SurveyScores) -> Table:
    """Return stated and true fractions of catastrophic fluxes among the measured galaxies."""
    title = "Survey calibration of p_bad"
    known = score.galaxies.take(score.galaxies.measured)
    result = calibration(known.p_bad, known.catastrophic)
    if not result.n:
        return Table((), (), title, before=(f"{score.deblender} states no p_bad.",))
    return replace(calibration_table(result), title=title, before=(f"{score.deblender}:",))
