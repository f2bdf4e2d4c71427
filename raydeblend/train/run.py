"""The run that the workers of a training get from its driver."""

from __future__ import annotations

from dataclasses import dataclass

from raydeblend import storage
from raydeblend.train.config import RunConfig, config_hash


@dataclass(frozen=True)
class Run:
    """The run that every worker gets from the driver."""

    config: RunConfig
    out: str
    paths: tuple[str, ...]

    @property
    def checkpoints(self) -> str:
        """Where the checkpoints of this configuration are."""
        name = f"{self.config.network}-{config_hash(self.config)}"
        return storage.join(self.out, "checkpoints", name)
