"""One pass through a network, the same while it is trained, scored and used."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def forward(network: nn.Module, channels: Tensor) -> Tensor:
    """Run `network` on ``(n, channels, y, x)`` in bfloat16, channels last; float32 out.

    That layout and precision are what makes small convolutional networks fast on CPUs and GPUs.
    """
    with torch.autocast(channels.device.type, torch.bfloat16):
        output: Tensor = network(channels.contiguous(memory_format=torch.channels_last))
    return output.float()


def choose_device(name: str | None) -> torch.device:
    """Return the torch device called `name`; by default the GPU where there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def gpu_name() -> str | None:
    """Return the name of the GPU that `choose_device` takes, None where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
