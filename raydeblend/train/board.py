"""TensorBoard: scalars and example images of a run, on local disk or s3."""

from __future__ import annotations

import os
import tempfile

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from raydeblend import storage
from raydeblend.train.steps import Scalars
from raydeblend.train.validation import Examples

PICTURE = "blend, model, truth, residual"
STRETCH = 20.0
"""Contrast of the arcsinh stretch of the examples: 1 / STRETCH of the peak is half-way up."""


class Board:
    """Writes one run's event file to ``<out>/tensorboard``.

    Event files are appended to, which s3 cannot do: there the file is kept in a temporary
    directory and put as a whole after each epoch.
    """

    def __init__(self, out: str, first_epoch: int) -> None:
        self._target = storage.join(out, "tensorboard")
        self._folder = tempfile.TemporaryDirectory() if storage.is_s3(out) else None
        folder = self._folder.name if self._folder else self._target
        # A resumed run hides what a killed one logged after its last checkpoint.
        self._writer = SummaryWriter(folder, purge_step=first_epoch + 1)

    def write(self, scores: Scalars, epoch: int, examples: Examples | None = None) -> None:
        """Add the scalars of one epoch and, for a deblender, a picture of examples."""
        for name, value in scores.items():
            self._writer.add_scalar(name, value, epoch)
        if examples is not None:
            self._writer.add_image(PICTURE, draw_examples(examples), epoch)
        self._writer.flush()
        self._publish()

    def _publish(self) -> None:
        if self._folder is None:
            return
        for name in os.listdir(self._folder.name):
            with open(os.path.join(self._folder.name, name), "rb") as file:
                storage.write_bytes(storage.join(self._target, name), file.read())


def draw_examples(examples: Examples) -> Tensor:
    """Return an RGB picture ``(3, n * y, 4 * x)`` in 0..1; reddest of three bands is red."""
    residual = examples.blend - examples.model
    columns = [examples.blend, examples.model, examples.truth, residual]
    picture = torch.cat([torch.cat(list(_rgb(c)), dim=1) for c in columns], dim=2)
    return (torch.asinh(picture * STRETCH) / torch.asinh(torch.tensor(STRETCH))).clamp(0, 1).cpu()


def _rgb(images: Tensor) -> Tensor:
    bands = images.shape[1]
    return images[:, [bands - 1, bands // 2, 0]]
