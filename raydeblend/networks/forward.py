"""One pass through a network, the same while it is trained, scored and used."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydeblend.errors import ConfigError


def forward(network: nn.Module, channels: Tensor, *others: Tensor) -> Tensor:
    """Run `network` on ``(n, channels, y, x)`` in bfloat16, channels last; float32 out.

    That layout and precision are what makes small convolutional networks fast on CPUs and GPUs.
    `others` are what else the network takes.
    """
    with torch.autocast(channels.device.type, torch.bfloat16):
        output: Tensor = network(channels.contiguous(memory_format=torch.channels_last), *others)
    return output.float()


def choose_device(name: str | None) -> torch.device:
    """Return the torch device called `name`; by default the GPU where there is one.

    Raises
    ------
    ConfigError
        If this machine, or this build of torch, has no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # Torch says AssertionError where it was built without CUDA.
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = ", ".join(["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))])
        raise ConfigError(f"there is no device {name!r} here; there are: {known}") from error
    return device


def gpu_name() -> str | None:
    """Return the name of the GPU that `choose_device` takes, None where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
