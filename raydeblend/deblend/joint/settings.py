"""What a fit depends on besides the blend."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch

from raydeblend.deblend.joint.config import JointConfig
from raydeblend.fit.priors import BulgeDiskPriors


@dataclass(frozen=True)
class Limit:
    """When to stop with a blend.

    Attributes
    ----------
    work
        The most of `BlendFit.work`.
    deadline
        Of `time.monotonic`, for machines that are far too slow: results then depend on it.
    """

    work: float
    deadline: float = np.inf

    def reached(self, work: float) -> bool:
        """Tell whether a blend that cost so much must end."""
        return work > self.work or time.monotonic() > self.deadline


UNLIMITED = Limit(np.inf)


@dataclass(frozen=True)
class FitSettings:
    """Priors, device, configuration and limit of the fits of all blends of a call."""

    priors: BulgeDiskPriors
    device: torch.device
    config: JointConfig = field(default_factory=JointConfig)
    limit: Limit = UNLIMITED

    @property
    def compiled(self) -> bool:
        """Whether the compiled fit is used, one blend after the other."""
        return self.device.type == "cpu"
