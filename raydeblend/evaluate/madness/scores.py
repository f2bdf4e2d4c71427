"""The protocol of MADNESS (Biswas et al. 2025, A&A 700, A129): crowded fields of 12 to 20 galaxies.

The paper's flux is aperture photometry: an ellipse of twice the half-light axes, widened by half
the seeing, on the field with the models of all other galaxies taken off.  Its error is what the
neighbors' models do wrong inside the ellipse; the same sum with the true neighbors taken off is
the truth.  The noise is in both.  The models' own total flux, which does not use the pixels again,
is printed next to it, and is the harder test.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from raydeblend.detect.matching import match_positions
from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.baselines import JOINT_TRUE, SCARLET, find_scarlet, load_named
from raydeblend.evaluate.common.bootstrap import Statistic
from raydeblend.evaluate.common.rows import Row, fixed_first, fraction, image_columns, measured
from raydeblend.measure.blendedness import blendedness
from raydeblend.simulate.fields import SNR_BAND, Field, FieldSet
from raydeblend.tile import Deblended, Deblender, FloatArray

LOGGER = logging.getLogger(__name__)

PROTOCOL = "madness"
GIVEN, DETECTED = "given", "detected"
APERTURE = 2.0
"""Axes of the aperture in units of the half-light axes."""
PAPER_ERRORS = {"MADNESS (Biswas et al. 2025)": 0.0197, "scarlet (Biswas et al. 2025)": 0.0278}
"""Mean |ΔF/F| in r with the true centroids given, of the same kind of fields."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FieldScores:
    """How one deblender did on n fields; arrays ``(n, k)`` are NaN beyond a field's galaxies.

    Attributes
    ----------
    centroids
        ``given`` or ``detected``.
    exists
        ``(n, k)`` which places hold a true galaxy.
    found
        ``(n, k)`` which of them have a model.
    aperture
        ``(n, k)`` F / F_true - 1 of the aperture flux in r; -1 where missing.
    total, total_bands
        ``(n, k)`` the same of the model's total flux, in r and over all bands; NaN where missing.
    ssim_r, cosine_r
        ``(n, k)`` of the models in r, 0 where missing.
    psnr, ssim
        ``(n, k)`` of DESIGN section 2; an image of zeros where missing.
    magnitude, blendedness
        ``(n, k)`` true, in r.
    spurious
        ``(n,)`` models that belong to no true galaxy.
    seconds
        ``(n,)`` wall time.
    models
        ``(m, bands, y, x)`` of the first field.
    """

    deblender: str
    centroids: str
    exists: NDArray[np.bool_]
    found: NDArray[np.bool_]
    aperture: Floats
    total: Floats
    total_bands: Floats
    ssim_r: Floats
    cosine_r: Floats
    psnr: Floats
    ssim: Floats
    magnitude: Floats
    blendedness: Floats
    spurious: NDArray[np.int64]
    seconds: Floats
    models: FloatArray


def load_deblenders(
    names: Sequence[str], weights: Mapping[str, str]
) -> tuple[dict[str, Deblender], dict[str, Deblender]]:
    """Load deblenders: those that are given the true centroids, and those that detect.

    The joint fit is among both; scarlet only among the first, wherever it imports.  `weights` are
    of deblenders by name, where they are not the shipped ones.

    Raises
    ------
    ConfigError
        If there is no deblender of a name, or it cannot be loaded.
    """
    given = [JOINT_TRUE] if {"joint", JOINT_TRUE} & set(names) else []
    if SCARLET in names or find_scarlet() is not None:
        given.append(SCARLET)
    own = [name for name in names if name not in (JOINT_TRUE, SCARLET)]
    return {name: load_named(name) for name in given}, {
        name: load_named(name, weights.get(name)) for name in own
    }


def evaluate_madness(
    given: Mapping[str, Deblender], own: Mapping[str, Deblender], data: FieldSet
) -> tuple[list[Row], list[FieldScores]]:
    """Score deblenders that are given the true centroids, and others that detect for themselves.

    Both are by the name the rows carry; those of `given` take positions as ``xy=``.
    """
    scores = [
        score_deblender(name, deblender, centroids, data)
        for centroids, group in ((GIVEN, given), (DETECTED, own))
        for name, deblender in group.items()
    ]
    return [make_row(score) for score in scores], scores


def score_deblender(name: str, deblender: Deblender, centroids: str, data: FieldSet) -> FieldScores:
    """Deblend all fields, one at a time, and compare with the truth."""
    parts, seconds, first = [], [], np.zeros((0, *data.fields[0].image.shape), np.float32)
    for i, field in enumerate(data.fields):
        began = time.perf_counter()
        result = deblend(deblender, field, data, centroids == GIVEN)
        seconds.append(time.perf_counter() - began)
        parts.append(score_field(result, field, data))
        if i == 0:
            first = result.models[0, : result.n_sources[0]]
        LOGGER.info("%s: %d of %d fields", name, i + 1, len(data.fields))
    return FieldScores(
        deblender=name,
        centroids=centroids,
        **{key: _padded([part[key] for part in parts]) for key in parts[0] if key != "spurious"},
        exists=_padded([np.ones(len(field.xy), bool) for field in data.fields]),
        spurious=np.array([part["spurious"] for part in parts]),
        seconds=np.array(seconds),
        models=first,
    )


def deblend(deblender: Deblender, field: Field, data: FieldSet, give: bool) -> Deblended:
    """Run the deblender on a whole field in sky sigmas; `give` it the true centroids or not."""
    positions: dict[str, Any] = {"xy": [field.xy]} if give else {}
    return deblender(
        field.image[None],
        variance=np.ones_like(field.image)[None],
        psf=data.psf,
        bands=data.bands,
        pixel_scale=data.pixel_scale,
        **positions,
    )


def _padded(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack rows of different lengths; NaN, or False, fills."""
    fill: Any = False if rows[0].dtype == bool else np.nan
    out = np.full((len(rows), max(len(row) for row in rows)), fill)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out


def score_field(result: Deblended, field: Field, data: FieldSet) -> dict[str, Any]:
    """Compare the models of one field with its k true galaxies: arrays ``(k,)`` by name."""
    band = data.bands.index(SNR_BAND)
    count = int(result.n_sources[0])
    match = match_positions(result.xy[0, :count], field.xy)
    found = match >= 0
    every = result.models[0, :count]
    models = np.where(found[:, None, None, None], result.models[0, np.maximum(match, 0)], 0)
    light, truth = models[:, band], field.isolated[:, band]
    # What is left when all models are off, those of no true galaxy too.
    residual = field.image[band] - every[:, band].sum(axis=0)
    shapes = _apertures(field, data.fwhm[band])
    measured_flux = _aperture_fluxes(residual + light, field.xy, shapes)
    true_flux = _aperture_fluxes(field.image[band] - truth.sum(0) + truth, field.xy, shapes)
    peak = float(field.image.max())
    return {
        "found": found,
        "aperture": np.where(found, measured_flux / true_flux - 1, -1.0),
        "total": np.where(found, _sum(light) / _sum(truth) - 1, np.nan),
        "total_bands": np.where(
            found, metrics.flux(models) / metrics.flux(field.isolated) - 1, np.nan
        ),
        "ssim_r": np.array([relative_ssim(*pair) for pair in zip(light, truth, strict=True)]),
        "cosine_r": np.array([cosine(*pair) for pair in zip(light, truth, strict=True)]),
        "psnr": _each(metrics.psnr, models, field.isolated, peak),
        "ssim": _each(metrics.ssim, models, field.isolated, peak),
        "magnitude": field.magnitude[:, band],
        "blendedness": blendedness(field.isolated[:, band : band + 1]),
        "spurious": count - int(found.sum()),
    }


def _sum(images: FloatArray) -> Floats:
    return np.asarray(images.sum(axis=(-2, -1), dtype=np.float64))


def _each(metric: Any, models: FloatArray, truth: FloatArray, peak: float) -> Floats:
    return np.array([metric(*pair, peak) for pair in zip(models, truth, strict=True)])


def _apertures(field: Field, fwhm: float) -> Floats:
    """Return ellipses ``(k, 3)`` of the half-light axes widened by half the seeing."""
    widened = np.sqrt(field.ellipse[:, :2] ** 2 + (fwhm / 2) ** 2)
    return np.concatenate([widened, field.ellipse[:, 2:]], axis=1)


def _aperture_fluxes(images: FloatArray, xy: Floats, ellipses: Floats) -> Floats:
    """Return the flux of each of ``(k, y, x)`` images inside its own ellipse."""
    return np.array(
        [aperture_flux(*one) for one in zip(images, xy, ellipses, strict=True)], dtype=np.float64
    )


def aperture_flux(image: FloatArray, xy: Floats, ellipse: Floats) -> float:
    """Return the flux of an image ``(y, x)`` inside `APERTURE` times an ellipse (a, b, angle)."""
    flux, _, _ = sep.sum_ellipse(
        np.ascontiguousarray(image), [xy[0]], [xy[1]], *([value] for value in ellipse), APERTURE
    )
    return float(flux[0])


def relative_ssim(model: FloatArray, truth: FloatArray) -> float:
    """Return the SSIM of images ``(y, x)``, each over its own maximum (as the paper's code)."""
    if model.max() <= 0:
        return 0.0
    return float(
        structural_similarity(
            truth / truth.max(),
            model / model.max(),
            data_range=1.0,
            gaussian_weights=True,
            use_sample_covariance=False,
        )
    )


def cosine(model: FloatArray, truth: FloatArray) -> float:
    """Return the cosine of the angle between two images as vectors; 0 for an empty model."""
    first, second = (image.astype(np.float64).ravel() for image in (model, truth))
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length > 0 else 0.0


def make_row(scores: FieldScores) -> Row:
    """Return the fixed columns, flux over all bands, and those of this protocol, in r."""
    capped = np.where(scores.exists, np.minimum(np.abs(_missing_as_one(scores.total)), 1), np.nan)
    capped_all = np.where(
        scores.exists, np.minimum(np.abs(_missing_as_one(scores.total_bands)), 1), np.nan
    )
    absolute = np.where(scores.exists, np.minimum(np.abs(scores.aperture), 1), np.nan)
    means: Mapping[str, Statistic] = {"mean": np.nanmean, "median": metrics.found_median}
    return fixed_first(
        {
            "protocol": PROTOCOL,
            "deblender": scores.deblender,
            "centroids": scores.centroids,
            "n_galaxies": "12-20",
            "galaxy": "all",
            "n": int(scores.exists.sum()),
            "fields": len(scores.exists),
            **image_columns("psnr", scores.psnr, means),
            **image_columns("ssim", scores.ssim, means),
            **measured("flux_bias", scores.total_bands, metrics.found_median),
            **measured("flux_nmad", scores.total_bands, metrics.found_nmad),
            **measured("flux_mape", capped_all, np.nanmean),
            **fraction("found", scores.found[scores.exists]),
            **measured("aperture_error_r", absolute, np.nanmean),
            **measured("flux_bias_r", scores.total, metrics.found_median),
            **measured("flux_nmad_r", scores.total, metrics.found_nmad),
            **measured("flux_mape_r", capped, np.nanmean),
            **measured("ssim_r", scores.ssim_r, np.nanmean),
            **measured("cosine_r", scores.cosine_r, np.nanmean),
            "missed": int((scores.exists & ~scores.found).sum()),
            "spurious": int(scores.spurious.sum()),
            "seconds_per_blend": float(scores.seconds.mean()),
        }
    )


def _missing_as_one(error: Floats) -> Floats:
    return np.nan_to_num(error, nan=1.0)
