"""What a run shows: scalars and pictures on TensorBoard, and each picture as a PNG file.

The axis of all of them is the number of steps done.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from raydeblend import storage
from raydeblend.train.config import RunConfig
from raydeblend.train.state import Scalars

PICTURE = "samples"
DPI, LABEL_HEIGHT, LEAST_WIDTH = 100, 20, 80
"""Of the names above the columns of a picture, and the least width of these, in pixels."""
STRETCH = 20.0
"""Contrast of the arcsinh stretch of the examples: 1 / STRETCH of the peak is half-way up."""


class Board:
    """Writes one run's event file to ``<out>/tensorboard`` and pictures to ``<out>/samples``.

    `steps` are those done before; what a killed run logged after them is hidden.

    Event files are appended to, which s3 cannot do: there the file is kept in a temporary
    directory and put as a whole after each epoch.
    """

    def __init__(self, out: str, steps: int) -> None:
        self._out = out
        self._target = storage.join(out, "tensorboard")
        self._folder = None if storage.is_local(out) else tempfile.TemporaryDirectory()
        folder = self._folder.name if self._folder else self._target
        self._writer = SummaryWriter(folder, purge_step=steps + 1)

    def describe(self, config: RunConfig) -> None:
        """Show the configuration of the run among the hyper-parameters."""
        values = {name: _plain(value) for name, value in asdict(config).items()}
        # What `SummaryWriter.add_hparams` does, which takes a folder of its own for it.
        events: Any = self._writer.file_writer
        for summary in hparams(values, {"loss": 0.0}):  # type: ignore[no-untyped-call]
            events.add_summary(summary)

    def write_step(self, scalars: Scalars, steps: int) -> None:
        """Add the scalars of step number `steps`, from 1 over all epochs."""
        for name, value in scalars.items():
            self._writer.add_scalar(f"step/{name}", value, steps)

    def write(
        self,
        scores: Scalars,
        epoch: int,
        steps: int,
        picture: Tensor,
        columns: Sequence[str] = (),
    ) -> None:
        """Add the scores and the picture ``(3, y, x)`` in 0..1 of one epoch, from 1.

        Parameters
        ----------
        steps
            Done by its end, over all epochs.
        columns
            What the columns of the picture show.
        """
        for name, value in scores.items():
            self._writer.add_scalar(name, value, steps)
        drawn = label_columns(picture, columns) if columns else picture.cpu()
        self._writer.add_image(PICTURE, drawn, steps)
        path = storage.join(self._out, "samples", f"epoch_{epoch:04d}.png")
        storage.write_bytes(path, encode_png(drawn))
        self._writer.flush()
        self._publish()

    def _publish(self) -> None:
        if self._folder is None:
            return
        for name in os.listdir(self._folder.name):
            with open(os.path.join(self._folder.name, name), "rb") as file:
                storage.write_bytes(storage.join(self._target, name), file.read())


def _plain(value: object) -> int | float | str | bool:
    """Return what the table of hyper-parameters takes."""
    return value if isinstance(value, int | float | str) else json.dumps(value)


def label_columns(picture: Tensor, columns: Sequence[str]) -> Tensor:
    """Return a picture ``(3, y, x)`` with names above its columns, enlarged so that they fit."""
    # Here, since of all workers only the first one draws.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = picture.shape[2] // len(columns)
    factor = -(-LEAST_WIDTH // width)
    large = picture.cpu().repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    # A little more, since fractions of a pixel are cut off.
    size = [(pixels + 0.1) / DPI for pixels in (large.shape[2], LABEL_HEIGHT)]
    figure = Figure((size[0], size[1]), dpi=DPI)
    for i, name in enumerate(columns):
        middle = (i + 0.5) / len(columns)
        figure.text(middle, 0.5, name, ha="center", va="center", fontsize=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())[..., :3] / 255  # type: ignore[no-untyped-call]
    label = torch.from_numpy(pixels).float()
    return torch.cat([label.permute(2, 0, 1), large], dim=1)


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
