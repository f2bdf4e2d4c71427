"""The networks that can be trained, by the name on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from raydeblend.errors import ConfigError
from raydeblend.train import (
    branched,
    counter,
    gan,
    rdn,
    rdn_joint,
    rdn_multiband,
    srflow,
    srgan,
    vae,
)
from raydeblend.train.config import RunConfig
from raydeblend.train.family import Family, Training, load_family

NETWORKS: Mapping[str, Family] = {
    "rdn": Family(rdn.RdnTraining, rdn.PRESETS),
    "rdn-multiband": Family(rdn_multiband.RdnMultibandTraining, rdn_multiband.PRESETS),
    "counter": Family(counter.CounterTraining, counter.PRESETS),
    "gan": Family(gan.GanTraining, gan.PRESETS),
    "rdn-joint": Family(rdn_joint.RdnJointTraining, rdn_joint.PRESETS),
    "branched": Family(branched.BranchedTraining, branched.PRESETS),
    "srgan": Family(srgan.SrganTraining, srgan.PRESETS),
    "srgan-multiband": Family(srgan.SrganTraining, srgan.MULTIBAND_PRESETS),
    "srflow": Family(srflow.SrflowTraining, srflow.PRESETS),
    "vae": Family(vae.VaeTraining, vae.VAE_PRESETS),
    "vae-deblend": Family(vae.VaeDeblendTraining, vae.DEBLEND_PRESETS),
}


def find_family(network: str) -> Family:
    """Return a network's family: one of `NETWORKS`, or a user's own as ``module:name``.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if ":" in network:
        return load_family(network)
    if network not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise ConfigError(f"unknown network {network!r}; known: {known}, or module:name")
    return NETWORKS[network]


def get_training(config: RunConfig) -> Training:
    """Return how the network of a run is trained."""
    return find_family(config.network).training(config)


def get_config(network: str, preset: str = "paper", **overrides: Any) -> Any:
    """Return a preset with some of its fields replaced (those given as None are kept).

    Raises
    ------
    ConfigError
        If the network or the preset is unknown, the network has no such option, or a value
        cannot be used.
    """
    presets = find_family(network).presets
    if preset not in presets:
        raise ConfigError(f"unknown preset {preset!r}; known: {', '.join(presets)}")
    config = presets[preset]
    given = {name: value for name, value in overrides.items() if value is not None}
    unknown = sorted(set(given) - {option.name for option in fields(config)})
    if unknown:
        raise ConfigError(f"{network} has no training option {unknown[0]!r}")
    config = replace(config, network=network, preset=preset, **given)
    config.check()
    return config.fitted()
