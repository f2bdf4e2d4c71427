"""Training images of the GAN: the stamps of one side of the split, drawn at random."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from raydeblend import storage
from raydeblend.simulate.sky_stamps import held_out


def read_stamps(path: str, validation: bool) -> Tensor:
    """Return the images ``(n, bands, y, x)`` of one side of the split, in sky sigmas."""
    with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as arrays:
        kept = held_out(arrays["galaxy"]) == validation
        return torch.from_numpy(arrays["images"][kept])


def draw_batch(images: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw `n` images, flipped and transposed at random, as float32."""
    device = images.device
    rows = torch.randint(len(images), (n,), generator=generator, device=device)
    turned = torch.rand((3, n, 1, 1, 1), generator=generator, device=device) < 0.5
    batch = images[rows].float()
    batch = torch.where(turned[0], batch.flip(-1), batch)
    batch = torch.where(turned[1], batch.flip(-2), batch)
    return torch.where(turned[2], batch.transpose(-1, -2), batch)
