"""Every network that can be trained, by the name on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from raydeblend.errors import ConfigError
from raydeblend.train import branched, counter, gan, joint, rdn, srgan, vae
from raydeblend.train.config import RunConfig
from raydeblend.train.family import Family

NETWORKS: dict[str, tuple[Family[Any, Any, Any], Mapping[str, RunConfig]]] = {
    "rdn": (rdn.FAMILY, rdn.PRESETS),
    "counter": (counter.FAMILY, counter.PRESETS),
    "gan": (gan.FAMILY, gan.PRESETS),
    "rdn-joint": (joint.FAMILY, joint.PRESETS),
    "branched": (branched.FAMILY, branched.PRESETS),
    "srgan": (srgan.FAMILY, srgan.PRESETS),
    "srgan-multiband": (srgan.FAMILY, srgan.MULTIBAND_PRESETS),
    "vae": (vae.FAMILY, vae.VAE_PRESETS),
    "vae-deblend": (vae.DEBLEND_FAMILY, vae.DEBLEND_PRESETS),
}


def get_family(network: str) -> Family[Any, Any, Any]:
    """Return the family of a network.

    Raises
    ------
    ConfigError
        If the network is unknown.
    """
    return _entry(network)[0]


def get_config(network: str, preset: str = "paper", **overrides: Any) -> Any:
    """Return a preset with some of its fields replaced (those given as None are kept).

    Raises
    ------
    ConfigError
        If the network or the preset is unknown, the network has no such option, or a value
        cannot be used.
    """
    presets = _entry(network)[1]
    if preset not in presets:
        raise ConfigError(f"unknown preset {preset!r}; known are {', '.join(presets)}")
    config = presets[preset]
    given = {name: value for name, value in overrides.items() if value is not None}
    unknown = sorted(set(given) - {option.name for option in fields(config)})
    if unknown:
        raise ConfigError(f"{network} has no training option {unknown[0]!r}")
    config = replace(config, **given)
    config.check()
    return config.fitted()


def _entry(network: str) -> tuple[Family[Any, Any, Any], Mapping[str, RunConfig]]:
    if network not in NETWORKS:
        raise ConfigError(f"unknown network {network!r}; known are {', '.join(NETWORKS)}")
    return NETWORKS[network]
