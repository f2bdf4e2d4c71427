"""Deblended galaxy catalogs from survey images, with neural deblenders on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raydeblend.tile import Deblender

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(name: str, device: str | None = None, weights: str | None = None) -> Deblender:
    """Return the deblender called `name`, with its shipped weights if it is a network.

    It accepts images in any linear unit, data type and memory order; pixels that are masked
    (`numpy.ma`), NaN or without a positive variance are not used.

    Parameters
    ----------
    name
        One of `raydeblend.config.DEBLENDERS`, or a user's own as ``module:name``.
    device
        A torch device; by default the GPU if there is one, else the CPU.  ``sep`` needs none,
        and a user's own deblender chooses for itself.
    weights
        Weights of a network to use in place of the shipped ones: a file, the output folder of a
        training (also ``s3://``), or the name of other shipped weights.

    Raises
    ------
    raydeblend.errors.ConfigError
        If there is no deblender of that name, or it or its weights cannot be loaded.

    Examples
    --------
    >>> deblender = load("rdn")                                   # doctest: +SKIP
    >>> result = deblender(images, variance=variance, psf=psf)    # doctest: +SKIP
    """
    from raydeblend.deblend import load_deblender
    from raydeblend.deblend.arrays import AnyUnit

    return AnyUnit(load_deblender(name, device, weights))
