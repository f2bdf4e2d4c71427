"""Sizes of fitted profiles as the catalog tells them: of the whole, whatever the profile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raydeblend.fit.half_light import Components, exponential_t, half_light_radius
from raydeblend.fit.profiles import BULGE_RADIUS, profile
from raydeblend.fit.result import Measurements


def with_sizes(measured: Measurements) -> Measurements:
    """Return an engine's measurements with `r50`, and with T of an exponential of that size.

    An engine's own T is that of its profile, of ``bdf`` the disk's alone.  At a fixed part of the
    bulge both go with the square of one radius, so that T keeps its relative error.
    """
    parts = components(measured)
    r50, _ = half_light_radius(parts)
    t = exponential_t(r50, measured.g1, measured.g2)
    relative = measured.T_err / measured.T
    return replace(measured, r50=r50, T=t, T_err=t * relative)


def components(measured: Measurements) -> Components:
    """Return profiles, half-light radii (arcsec) and fluxes of the components of each source.

    A source whose fluxes are all negative counts as if they were positive: its size is the same.
    """
    shape = profile(measured.model)
    square = measured.g1**2 + measured.g2**2
    circular = measured.T * (1 - square) / (1 + square)
    radius = np.sqrt(np.maximum(circular, 0) / shape.t_per_radius2)[:, None]
    light = np.abs(measured.flux).T
    if measured.model != "bdf":
        return Components((measured.model,), radius, light[..., None])
    bulge = measured.bulge_fraction.T
    flux = np.stack([light * (1 - bulge), light * bulge], -1)
    return Components(("exp", "dev"), radius * [1.0, BULGE_RADIUS], flux)
