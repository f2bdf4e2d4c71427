"""Fluxes of galaxies whose places and shapes are known: a linear fit of all in a footprint.

As T-PHOT does with models from other images (Merlin et al. 2015, A&A 582, A15, section 2): each
template is convolved with the PSF of its place, and one amplitude in each band is free.  Amplitudes
may be negative, so that their mean over many faint sources is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from raydeblend.deblend.joint.config import BlockConfig
from raydeblend.deblend.joint.crowds.light import blendedness, total_light
from raydeblend.deblend.joint.crowds.patches import Patch, draw_source
from raydeblend.deblend.joint.deblender import JointDeblender, one_thread, quality_by
from raydeblend.deblend.joint.seen_psf import Psf
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.amplitudes import RIDGE
from raydeblend.fit.parameters import POSITION
from raydeblend.fit.result import ARRAYS, not_attempted
from raydeblend.tile import Box, Separated

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Templates:
    """k galaxies.

    Attributes
    ----------
    theta
        ``(k, 9)``, see `fit.parameters`, in pixels of the stamp.
    bulge
        ``(k,)`` the bulge's part of the light, in every band.
    error
        ``(k,)`` by which part of itself a flux may be off since the shape is not quite known.
    """

    theta: Array
    bulge: Array
    error: Array

    @property
    def parts(self) -> Array:
        """The parts ``(k, 2)`` of disk and bulge in the light."""
        return np.stack([1 - self.bulge, self.bulge], axis=1)


def separate_templates(
    deblender: JointDeblender,
    image: ArrayLike,
    variance: ArrayLike,
    mask: ArrayLike,
    psf: Psf,
    pixel_scale: float,
    templates: Templates,
    least_peak: float,
) -> Separated:
    """Fit the fluxes of templates in one footprint.

    What is not fitted, sizes and shapes, is NaN in `extra`.

    Parameters
    ----------
    image, variance, mask, psf, pixel_scale
        See `JointDeblender.separate_footprint`.
    least_peak
        Sigma of a pixel for which a template is drawn at least.
    """
    images, variances, masks = (np.asarray(each)[None] for each in (image, variance, mask))
    with one_thread():
        (stamp,), sigma = deblender.make_stamps(images, variances, masks, psf, pixel_scale)
    config, unit = deblender.config, sigma[0, :, 0, 0]
    drawn, as_drawn = _draw(stamp, templates, least_peak, config.blocks)
    flux, noise = _solve(stamp, drawn, as_drawn)
    scale = flux / np.where(as_drawn > 0, as_drawn, 1)
    patches = [_scaled(patch, own) for patch, own in zip(drawn, scale, strict=True)]
    reduced = _reduced_chi2(stamp, patches)
    common = np.hypot(templates.error, config.photometry.own_fraction)
    extra = _measured(flux * unit, noise * unit, common, reduced)
    order = np.argsort(-np.nansum(extra["flux"], axis=1), kind="stable")
    visible = [replace(patch, light=np.maximum(patch.light, 0)) for patch in patches]
    return Separated(
        xy=templates.theta[order, POSITION].astype(np.float32),
        boxes=tuple(patches[i].box for i in order),
        lights=tuple(patches[i].light * sigma[0] for i in order),
        quality=quality_by(reduced, True, config.quality),
        limited=False,
        blendedness=blendedness(visible, stamp.image.shape)[order],
        extra={name: values[order] for name, values in extra.items()},
        work=float(sum(patch.light.size for patch in patches)),
        parts_xy=np.empty((0, 2), np.float32),
    )


def _measured(flux: Array, noise: Array, common: Array, reduced: float) -> dict[str, Array]:
    """Return the measurements of k templates by name.

    Parameters
    ----------
    flux, noise
        ``(k, bands)`` fluxes and their errors from the noise.
    common
        ``(k,)`` by which part of itself a flux may be off, in all bands alike.
    """
    k, bands = flux.shape
    off = common[:, None] * flux
    covariance = off[:, :, None] * off[:, None] + np.square(noise)[:, :, None] * np.eye(bands)
    unknown = not_attempted(k, bands, "", "")
    return {name: getattr(unknown, name) for name in ARRAYS if name != "flags"} | {
        "flux": flux,
        "flux_err": np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)),
        "flux_cov": covariance,
        "shift": np.zeros((k, 2)),
        "chi2": np.full(k, reduced),
    }


def _draw(
    stamp: Stamp, templates: Templates, least_peak: float, config: BlockConfig
) -> tuple[list[Patch], Array]:
    """Return each template and its flux ``(k, bands)`` as drawn: no fainter than it looks."""
    places = stamp.place(templates.theta[:, POSITION]).T
    drawn, fluxes = [], np.empty((len(places), len(stamp.image)))
    shape = stamp.image.shape[1:]
    for k, (theta, parts, place) in enumerate(
        zip(templates.theta, templates.parts, places, strict=True)
    ):
        column, row = np.floor(theta[POSITION] + 0.5).astype(int).tolist()
        window = Box(row - 1, column - 1, row + 2, column + 2).clip(Box(0, 0, *shape))
        peak = stamp.image[:, *window.slices].max((1, 2), initial=least_peak)
        unit = draw_source(stamp, theta, np.tile(parts, (len(peak), 1)), place, config)
        center = unit.light.max((1, 2), initial=0)
        fluxes[k] = peak / np.where(center > 0, center, np.inf)
        drawn.append(draw_source(stamp, theta, fluxes[k][:, None] * parts, place, config))
    return drawn, fluxes


def _solve(stamp: Stamp, drawn: Sequence[Patch], as_drawn: Array) -> tuple[Array, Array]:
    """Return the fluxes ``(k, bands)`` of templates and their errors; NaN where a band hides one.

    `as_drawn` ``(k, bands)`` are those of the templates as drawn.
    """
    good = stamp.weight > 0
    size = good[0].size
    pixels = np.arange(size).reshape(good[0].shape)
    rows = np.concatenate([pixels[patch.box.slices].ravel() for patch in drawn])
    ends = np.cumsum([0, *(patch.light[0].size for patch in drawn)])
    seen_anywhere = good.any(0).ravel()
    flux, error = np.full_like(as_drawn, np.nan), np.full_like(as_drawn, np.nan)
    for band, weight in enumerate(stamp.weight.reshape(len(good), -1).astype(np.float64)):
        light = np.concatenate([patch.light[band].ravel() for patch in drawn]).astype(np.float64)
        images = sparse.csc_array((light, rows, ends), shape=(size, len(drawn)))
        weighted = images.multiply(weight[:, None]).tocsc()
        normal = (weighted.T @ images).toarray()
        own = np.diagonal(normal)
        ridge = np.where(own > 0, RIDGE * own, 1.0)
        covariance = np.linalg.inv(normal + np.diag(ridge))
        amplitude = covariance @ (weighted.T @ stamp.image[band].ravel().astype(np.float64))
        squares = images.power(2).T
        shown, most = squares @ (weight > 0), squares @ seen_anywhere
        known = (shown > 0) & (shown >= stamp.min_shown * most)
        unit = as_drawn[known, band]
        flux[known, band] = amplitude[known] * unit
        error[known, band] = np.sqrt(np.diagonal(covariance))[known] * unit
    return flux, error


def _scaled(patch: Patch, scale: Array) -> Patch:
    """Return a template with its light times a factor ``(bands,)``, NaN for none."""
    return replace(
        patch, light=patch.light * np.nan_to_num(scale)[:, None, None].astype(np.float32)
    )


def _reduced_chi2(stamp: Stamp, patches: Sequence[Patch]) -> float:
    rest = stamp.image - total_light(patches, stamp.image.shape)
    freedom = np.count_nonzero(stamp.weight) - len(patches) * len(stamp.image)
    return float((stamp.weight * rest**2).sum() / max(freedom, 1))
