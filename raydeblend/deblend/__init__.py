"""Deblenders: arrays in, `raydeblend.tile.Deblended` out."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter

from raydeblend.config import DEBLENDER_LOADERS
from raydeblend.deblend.plugins import load_own
from raydeblend.errors import ConfigError
from raydeblend.tile import Deblender


def load_deblender(name: str, device: str | None = None) -> Deblender:
    """Return the deblender called `name` with its shipped weights.

    `device` is a torch device; by default the GPU where there is one, else the CPU.  A name with
    a colon, ``module:name``, is a user's own (`raydeblend.deblend.plugins`).

    Raises
    ------
    ConfigError
        If there is no deblender of that name.
    """
    if ":" in name:
        return load_own(name)
    if name not in DEBLENDER_LOADERS:
        raise ConfigError(
            f"unknown deblender {name!r}; known are {', '.join(DEBLENDER_LOADERS)}, or your own as "
            "module:name"
        )
    module, _, loader = DEBLENDER_LOADERS[name].partition(":")
    deblender: Deblender = attrgetter(loader)(import_module(module))(device)
    return deblender
