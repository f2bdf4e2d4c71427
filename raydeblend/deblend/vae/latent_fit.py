"""All galaxies of a blend moved together in latent space, to where the pixels want them.

The encoder sees a galaxy with its neighbors, or what their models leave.  Here one step of Gauss
and Newton towards the maximum of the posterior probability changes the latent variables of all
galaxies of a blend at once.  Each is then encoded once more, less the others as they have become,
and a last step is taken.  The prior of the first step is as wide as galaxies differ; that of the
last is what the encoder believed.  It has seen the same pixels: a wider prior gives a better median
and worse outliers, since the decoder cannot draw what a bright galaxy's neighbor then explains.
(MADNESS, Biswas et al. 2025, descends to that maximum in hundreds of steps, with a flow as prior.)
Uncertainties are the encoder's, which was trained on its own errors; those of the pixels' noise
alone are half of what they should be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydeblend.deblend.vae.config import VAE
from raydeblend.networks.vae import Posterior
from raydeblend.networks.vae_tangents import PROBE_SPREAD, galaxies, linearize
from raydeblend.tile import FloatArray

Corners = NDArray[np.int64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Decoded:
    """What is decoded for the ``k`` peaks of a stamp, in noise units and the network's bands.

    Attributes
    ----------
    model, spread
        ``(k, bands, y, x)`` on the network's stamp, and the standard deviation of each pixel.
    flux_spread
        ``(k, bands)`` standard deviation of the fluxes.
    """

    model: FloatArray
    spread: FloatArray
    flux_spread: FloatArray


@dataclass(frozen=True)
class LatentBlend:
    """The k galaxies of one stamp, each a point in latent space.

    Attributes
    ----------
    decoder
        Draws them.
    directions
        ``(d, latent)``, orthonormal.
    image, weight
        ``(bands, y, x)`` in noise units, and its inverse variance.
    corners
        ``(k, 2)`` first pixels (y, x) of the network's stamps.
    """

    decoder: nn.Module
    directions: Tensor
    image: FloatArray
    weight: FloatArray
    corners: Corners

    def draw(self, z: Tensor) -> FloatArray:
        """Return the galaxies ``(k, bands, y, x)`` on the network's stamps."""
        with torch.autocast(z.device.type, torch.bfloat16):
            return np.asarray(galaxies(self.decoder, z).float().cpu().numpy())

    def linearize(self, z: Tensor) -> tuple[FloatArray, FloatArray]:
        """Return the galaxies, and their derivatives ``(k, d, bands, y, x)``."""
        with torch.autocast(z.device.type, torch.bfloat16):
            drawn, tangents = linearize(self.decoder, z, self.directions)
        return drawn.float().cpu().numpy(), tangents.float().cpu().numpy()

    def light(self, model: FloatArray) -> FloatArray:
        """Return the sum of the models on the stamp, ``(bands, y, x)``."""
        return np.asarray(self._place(model).sum(axis=0))

    def residual(self, model: FloatArray) -> FloatArray:
        """Return what the models leave of the stamp."""
        return np.asarray(self.image - self.light(model))

    def without_others(self, model: FloatArray) -> FloatArray:
        """Return the network's stamp of each galaxy, less the models of the others."""
        placed = self._place(model)
        cleaned = self.image - placed.sum(axis=0) + placed
        return cut_out(cleaned, self.corners, model.shape[-1])

    def full_weight(self, model: FloatArray) -> FloatArray:
        """Return the inverse variance with the error of the models."""
        outside = beyond(model, self.corners, self.image.shape[1:])
        squared = (VAE.model_error * self._place(model).sum(axis=0)) ** 2 + (outside**2).sum(axis=0)
        return np.asarray(self.weight / (1 + self.weight * squared))

    def columns(self, tangents: FloatArray) -> FloatArray:
        """Return the derivatives of the stamp, ``(k d, pixels)``."""
        k, d = tangents.shape[:2]
        flat = tangents.reshape(k * d, *tangents.shape[2:])
        placed = paste(flat, np.repeat(self.corners, d, axis=0), self.image.shape[1:])
        return placed.reshape(k * d, -1)

    def _place(self, model: FloatArray) -> FloatArray:
        return paste(model, self.corners, self.image.shape[1:])


def fit_latents(
    blend: LatentBlend, posterior: Posterior, encode: Callable[[FloatArray], Posterior]
) -> Decoded:
    """Move the galaxies of one stamp together.

    Parameters
    ----------
    posterior
        The encoder's, of k galaxies.
    encode
        Gives the posterior of stamps of the network's size.
    """
    model, tangents = blend.linearize(posterior.mean)
    if len(model) == 0:
        return Decoded(model, model, model.sum(axis=(2, 3)))
    if len(model) > 1:
        first = np.eye(tangents.shape[1]) / PROBE_SPREAD**2
        usual = np.broadcast_to(first, (len(model), *first.shape))
        nearer = _step(blend, posterior.mean, model, tangents, usual)
        posterior = encode(blend.without_others(nearer))
        after = blend.draw(posterior.mean)
        # The derivatives are those at the start, which is near enough, at the flux of now.
        tangents = (
            tangents * (after.sum(axis=(2, 3)) / model.sum(axis=(2, 3)))[:, None, :, None, None]
        )
        model = after
    precision = _along(posterior, blend.directions, -2)
    model = _step(blend, posterior.mean, model, tangents, precision)
    return Decoded(model, *_spreads(tangents, _along(posterior, blend.directions, 2)))


def _along(posterior: Posterior, directions: Tensor, power: int) -> Array:
    """Return that power of the posterior's widths along the directions, ``(k, d, d)``.

    2 gives the covariance; -2 its inverse, for galaxies that move along these directions alone.
    """
    power_of = (power * posterior.log_sigma).exp()
    turned = torch.einsum("dl,kl,el->kde", directions, power_of, directions)
    return turned.double().cpu().numpy()


def _step(
    blend: LatentBlend, z: Tensor, model: FloatArray, tangents: FloatArray, precision: Array
) -> FloatArray:
    """Take one step from z, if it leads to something more probable; return the models there.

    `precision` ``(k, d, d)`` is the inverse covariance of the prior about z.
    """
    weight, residual = blend.full_weight(model), blend.residual(model)
    columns, prior = blend.columns(tangents), _block_diagonal(precision)
    weighted = columns * weight.reshape(-1)
    curvature = (weighted @ columns.T).astype(np.float64) + prior
    pull = (weighted @ residual.reshape(-1)).astype(np.float64)
    step = np.linalg.solve(curvature, pull).clip(-VAE.max_step, VAE.max_step)
    turned = torch.from_numpy(step.reshape(len(model), -1)).to(blend.directions)
    moved = blend.draw(z + turned @ blend.directions)
    before, after = (float((weight * r**2).sum()) for r in (residual, blend.residual(moved)))
    better = after + float(step @ prior @ step) < before
    return moved if better else model


def _block_diagonal(blocks: Array) -> Array:
    """Put ``(k, d, d)`` on the diagonal of ``(k d, k d)``."""
    k, d = blocks.shape[:2]
    matrix = np.zeros((k, d, k, d))
    matrix[range(k), :, range(k)] = blocks
    return matrix.reshape(k * d, k * d)


def _spreads(tangents: FloatArray, covariance: Array) -> tuple[FloatArray, FloatArray]:
    """Return standard deviations of pixels ``(k, bands, y, x)`` and of fluxes ``(k, bands)``.

    `covariance` ``(k, d, d)`` is that along the directions of the `tangents`.
    """
    each, flux = covariance.astype(np.float32), tangents.sum(axis=(3, 4))
    turned = np.einsum("kde,kebyx->kdbyx", each, tangents)
    variance = (turned * tangents).sum(axis=1)
    of_flux = np.einsum("kdb,kde,keb->kb", flux, each, flux)
    return np.sqrt(np.maximum(variance, 0)), np.sqrt(np.maximum(of_flux, 0))


def cut_out(images: FloatArray, corners: Corners, size: int) -> FloatArray:
    """Cut ``(k, bands, size, size)`` out of images; zero beyond their edges.

    `images` is ``(k, bands, y, x)``, or one of ``(bands, y, x)`` for all.
    """
    each = np.broadcast_to(images, (len(corners), *images.shape[-3:]))
    padded = np.pad(each, ((0, 0), (0, 0), (size, size), (size, size)))
    cuts = [
        image[:, y + size : y + 2 * size, x + size : x + 2 * size]
        for image, (y, x) in zip(padded, corners, strict=True)
    ]
    shape = (0, images.shape[-3], size, size)
    return np.stack(cuts) if cuts else np.zeros(shape, dtype=np.float32)


def paste(models: FloatArray, corners: Corners, shape: tuple[int, ...]) -> FloatArray:
    """Put models ``(k, bands, size, size)`` at their corners into stamps ``(k, bands, y, x)``."""
    size = models.shape[-1]
    placed = np.zeros((*models.shape[:2], *shape), np.float32)
    for frame, model, corner in zip(placed, models, corners, strict=True):
        first = np.clip(corner, 0, shape)
        last = np.clip(corner + size, 0, shape)
        (y0, x0), (y1, x1) = first - corner, last - corner
        frame[:, first[0] : last[0], first[1] : last[1]] = model[:, y0:y1, x0:x1]
    return placed


def beyond(models: FloatArray, corners: Corners, shape: tuple[int, ...]) -> FloatArray:
    """Return how much light models may have beyond the network's stamps, ``(k, bands, y, x)``.

    That of the nearest pixel of their edge; zero inside.
    """
    size = models.shape[-1]
    outside = np.zeros((*models.shape[:2], *shape), np.float32)
    for frame, model, (y, x) in zip(outside, models, corners, strict=True):
        rows, columns = np.arange(shape[0]) - y, np.arange(shape[1]) - x
        nearest = np.ix_(rows.clip(0, size - 1), columns.clip(0, size - 1))
        inside = np.outer(rows == rows.clip(0, size - 1), columns == columns.clip(0, size - 1))
        frame[:] = np.where(inside, 0, model[:, *nearest])
    return outside
