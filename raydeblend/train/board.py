"""What a run shows: scalars and pictures on TensorBoard, and each picture as a PNG file."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from raydeblend import storage
from raydeblend.train.state import Scalars

PICTURE = "samples"
STRETCH = 20.0
"""Contrast of the arcsinh stretch of the examples: 1 / STRETCH of the peak is half-way up."""


class Board:
    """Writes one run's event file to ``<out>/tensorboard`` and pictures to ``<out>/samples``.

    Event files are appended to, which s3 cannot do: there the file is kept in a temporary
    directory and put as a whole after each epoch.
    """

    def __init__(self, out: str, first_epoch: int) -> None:
        self._out = out
        self._target = storage.join(out, "tensorboard")
        self._folder = None if storage.is_local(out) else tempfile.TemporaryDirectory()
        folder = self._folder.name if self._folder else self._target
        # A resumed run hides what a killed one logged after its last checkpoint.
        self._writer = SummaryWriter(folder, purge_step=first_epoch + 1)

    def write(self, scores: Scalars, epoch: int, picture: Tensor | None = None) -> None:
        """Add the scalars and the picture ``(3, y, x)`` in 0..1 of one epoch, from 1."""
        for name, value in scores.items():
            self._writer.add_scalar(name, value, epoch)
        if picture is not None:
            self._writer.add_image(PICTURE, picture, epoch)
            path = storage.join(self._out, "samples", f"epoch_{epoch:04d}.png")
            storage.write_bytes(path, encode_png(picture))
        self._writer.flush()
        self._publish()

    def _publish(self) -> None:
        if self._folder is None:
            return
        for name in os.listdir(self._folder.name):
            with open(os.path.join(self._folder.name, name), "rb") as file:
                storage.write_bytes(storage.join(self._target, name), file.read())


def encode_png(picture: Tensor) -> bytes:
    """Return ``(3, y, x)`` in 0..1 as the bytes of a PNG file."""
    buffer = io.BytesIO()
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    # Here, since of all workers only the first one draws.
    from matplotlib.image import imsave

    imsave(buffer, pixels.permute(1, 2, 0).cpu().numpy(), format="png")
    return buffer.getvalue()


def draw_columns(columns: Sequence[Tensor], stretch: float = STRETCH) -> Tensor:
    """Draw a column for each batch ``(n, bands, y, x)`` of images that peak near 1.

    Returns ``(3, n * y, columns * x)`` in 0..1, stretched by arcsinh; the reddest band is red.
    """
    picture = torch.cat([torch.cat(list(rgb(c)), dim=1) for c in columns], dim=2)
    return (torch.asinh(picture * stretch) / torch.asinh(torch.tensor(stretch))).clamp(0, 1).cpu()


def rgb(images: Tensor) -> Tensor:
    """Return the last, middle and first band of ``(n, bands, y, x)``."""
    bands = images.shape[1]
    return images[:, [bands - 1, bands // 2, 0]]
