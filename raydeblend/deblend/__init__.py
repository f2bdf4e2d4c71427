"""Deblenders: arrays in, `raydeblend.tile.Deblended` out."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter

from raydeblend.config import DEBLENDER_LOADERS, DEBLENDER_NETWORKS
from raydeblend.deblend.plugins import load_own
from raydeblend.errors import ConfigError
from raydeblend.tile import Deblender


def load_deblender(name: str, device: str | None = None, weights: str | None = None) -> Deblender:
    """Return the deblender called `name` with its shipped weights, or with others.

    `device` is a torch device; by default the GPU where there is one, else the CPU.  `weights`
    are a file, a folder that a training left, or a shipped name.  A name with a colon,
    ``module:name``, is a user's own (`raydeblend.deblend.plugins`).

    Raises
    ------
    ConfigError
        If there is no deblender of that name, or it cannot be loaded with those weights.
    """
    if ":" in name:
        if weights is not None:
            raise ConfigError(f"{name} is not given weights; a deblender of your own loads them")
        return load_own(name)
    if name not in DEBLENDER_LOADERS:
        raise ConfigError(
            f"unknown deblender {name!r}; known: {', '.join(DEBLENDER_LOADERS)}, or your own as "
            "module:name"
        )
    module, _, loader = DEBLENDER_LOADERS[name].partition(":")
    paths = () if weights is None else _find(name, weights)
    deblender: Deblender = attrgetter(loader)(import_module(module))(device, *paths)
    return deblender


def _find(name: str, weights: str) -> list[str | None]:
    """Return the paths of the networks of a deblender, see `find_weights`."""
    from raydeblend.networks.weights import find_weights

    if name not in DEBLENDER_NETWORKS:
        raise ConfigError(
            f"{name} has no network and takes no weights; those with one are "
            f"{', '.join(DEBLENDER_NETWORKS)}"
        )
    return find_weights(weights, DEBLENDER_NETWORKS[name])
