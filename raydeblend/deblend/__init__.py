"""Deblenders: arrays in, `raydeblend.tile.Deblended` out."""

from __future__ import annotations

from raydeblend.config import DEBLENDERS
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
    # Imported where they are used, so that the classical deblender works without loading torch.
    if name in ("rdn", "rdn-joint"):
        from raydeblend.deblend.peeling.rdn import RdnDeblender

        return RdnDeblender.load_shipped(name, device)
    if name == "joint":
        from raydeblend.deblend.joint.deblender import JointDeblender

        return JointDeblender.load(device)
    if name == "branched":
        from raydeblend.deblend.peeling.branched import BranchedDeblender

        return BranchedDeblender.load(device)
    if name == "vae":
        from raydeblend.deblend.vae.deblender import VaeDeblender

        return VaeDeblender.load(device)
    if name == "srgan":
        from raydeblend.deblend.srgan.deblender import SrganDeblender

        return SrganDeblender.load(device)
    if name == "sep":
        from raydeblend.deblend.sep import SepDeblender

        return SepDeblender()
    raise ConfigError(f"unknown deblender {name!r}; known are {', '.join(DEBLENDERS)}")
