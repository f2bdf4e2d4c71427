"""Every network that can be trained, by the name on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from raydeblend.errors import ConfigError
from raydeblend.train import branched, counter, gan, rdn, rdn_joint, srgan, vae
from raydeblend.train.config import RunConfig
from raydeblend.train.network_training import NetworkTraining

Training = NetworkTraining[Any, Any, Any]

NETWORKS: Mapping[str, tuple[type[Training], Mapping[str, RunConfig]]] = {
    "rdn": (rdn.RdnTraining, rdn.PRESETS),
    "counter": (counter.CounterTraining, counter.PRESETS),
    "gan": (gan.GanTraining, gan.PRESETS),
    "rdn-joint": (rdn_joint.RdnJointTraining, rdn_joint.PRESETS),
    "branched": (branched.BranchedTraining, branched.PRESETS),
    "srgan": (srgan.SrganTraining, srgan.PRESETS),
    "srgan-multiband": (srgan.SrganTraining, srgan.MULTIBAND_PRESETS),
    "vae": (vae.VaeTraining, vae.VAE_PRESETS),
    "vae-deblend": (vae.VaeDeblendTraining, vae.DEBLEND_PRESETS),
}


def get_training(config: RunConfig) -> Training:
    """Return how the network of a run is trained."""
    training, _ = NETWORKS[config.network]
    return training(config)


def get_config(network: str, preset: str = "paper", **overrides: Any) -> Any:
    """Return a preset with some of its fields replaced (those given as None are kept).

    Raises
    ------
    ConfigError
        If the network or the preset is unknown, the network has no such option, or a value
        cannot be used.
    """
    if network not in NETWORKS:
        raise ConfigError(f"unknown network {network!r}; known are {', '.join(NETWORKS)}")
    _, presets = NETWORKS[network]
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
