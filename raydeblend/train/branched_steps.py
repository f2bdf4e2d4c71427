"""Losses and steps of the branched network (Reiman & Göhre 2019, section 2.2), without Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydeblend.networks.forward import forward
from raydeblend.networks.vgg import Features
from raydeblend.train import adversarial
from raydeblend.train.adversarial import adversarial_loss, discriminator_loss, frozen
from raydeblend.train.branched_data import PairBatch
from raydeblend.train.losses import ssim


@dataclass(frozen=True)
class BranchedLoss:
    """How the two images are compared with the two true galaxies.

    Attributes
    ----------
    pixel
        ``mse``: Eq. 4.  ``log_mse``: half its logarithm for each image, whose mean is the mean
        PSNR, so that nearly black images count as much as bright ones.
    floor
        Squared error, in the paper's unit, that counts as none.  Images without a galaxy, or
        with a faint one, have no more error than this when the model is black; with a low floor
        they outweigh all the others, and the network stays black.
    flux_weight
        Weight of the error of each band's flux, over the flux of both galaxies (over its own,
        the faintest would count most); images without a galaxy have none.
    ssim_weight
        Weight of 1 - SSIM of the images clipped at zero, see `ssim`.  Where the sky is nearly
        black, the squared error hardly sees what SSIM counts: a gray level too much, and texture.
    clipped
        A negative pixel where the truth is zero is no error: models are clipped at zero in the
        end, and black is far easier to stay below than to hit.
    tie_ratio
        Two galaxies whose fluxes differ by less than this ratio may come out of either branch;
        1 turns it off.
    adversarial
        ``minimax``: the generator lowers log(1 - D), Eqs. 1 and 2.  ``non_saturating``: it lowers
        -log D, as SRGAN's does, which has a gradient when the discriminator is sure.
    adversarial_weight
        1e-3 (section 2.2.2); 0 leaves the discriminator out.
    burn_in
        First steps, in which the generator lowers Eq. 5 alone, the squared error of deep
        features; "a few thousand batches" (section 4).
    """

    pixel: Literal["mse", "log_mse"] = "mse"
    floor: float = 1e-5
    flux_weight: float = 0.0
    ssim_weight: float = 0.0
    clipped: bool = False
    tie_ratio: float = 1.0
    adversarial: Literal["minimax", "non_saturating"] = "minimax"
    adversarial_weight: float = 1e-3
    burn_in: int = 3000


def pixel_loss(model: Tensor, batch: PairBatch, loss: BranchedLoss) -> Tensor:
    """Compare ``(n, 2, bands, y, x)`` with the true pair; the mean over both images, ``()``."""
    straight = _per_image(model, batch.galaxies, loss).mean(dim=1)
    if loss.tie_ratio >= 1:
        return straight.mean()
    swapped = _per_image(model, batch.galaxies.flip(1), loss).mean(dim=1)
    flux = batch.galaxies.sum(dim=(2, 3, 4))
    tie = flux.amin(dim=1) > loss.tie_ratio * flux.amax(dim=1)
    return torch.where(tie & (swapped < straight), swapped, straight).mean()


def _per_image(model: Tensor, truth: Tensor, loss: BranchedLoss) -> Tensor:
    """Loss of each image, ``(n, 2)``."""
    # The paper's images are in [-1, 1]: twice the distances in [0, 1].
    difference = 2 * (model - truth)
    if loss.clipped:
        difference = torch.where((model < 0) & (truth <= 0), 0.0, difference)
    error = difference.square().mean(dim=(2, 3, 4))
    value = 0.5 * torch.log(error + loss.floor) if loss.pixel == "log_mse" else error
    if loss.ssim_weight:
        unlike = 1 - ssim(model.clamp(min=0).flatten(0, 1), truth.flatten(0, 1))
        value = value + loss.ssim_weight * unlike.reshape(value.shape)
    if not loss.flux_weight:
        return value
    there = truth.amax(dim=(2, 3, 4)) > 0
    return value + loss.flux_weight * torch.where(there, _flux_error(model, truth), 0.0)


def _flux_error(model: Tensor, truth: Tensor) -> Tensor:
    """Mean over bands of the error of the flux over that of both galaxies, ``(n, 2)``."""
    flux, true_flux = model.sum(dim=(3, 4)), truth.sum(dim=(3, 4))
    both = true_flux.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return ((flux - true_flux).abs() / both).clamp(max=1).mean(dim=2)


def feature_loss(model: Tensor, batch: PairBatch, features: Features) -> Tensor:
    """Mean squared error of deep features (Eq. 5), the mean over both images, ``()``."""
    bands = model.shape[2]
    three = [0, bands // 2, bands - 1]
    sigmas = batch.sigmas.repeat_interleave(model.shape[1], dim=0)

    def extract(images: Tensor) -> Tensor:
        image = images.flatten(0, 1)[:, three].clamp(0, 1)
        with torch.autocast(image.device.type, torch.bfloat16):
            activations: Tensor = features(image, sigmas)
        return activations.float()

    with torch.no_grad():
        truth = extract(batch.galaxies)
    return F.mse_loss(extract(model), truth)


def discriminate(discriminator: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of real and of deblended images ``(n, 2, bands, y, x)``."""
    # The paper's images are in [-1, 1].
    pair = [2 * images.flatten(0, 1) - 1 for images in (real, fake)]
    return adversarial.discriminate(discriminator, *pair)


def generator_loss(
    model: Tensor,
    batch: PairBatch,
    loss: BranchedLoss,
    discriminator: nn.Module,
    features: Features | None,
) -> dict[str, Tensor]:
    """Return the generator's ``loss`` and its parts; with `features`, those alone (burn-in).

    `discriminator` must be that of the state, not its data-parallel wrapper.
    """
    if features is not None:
        value = feature_loss(model, batch, features)
        return {"loss": value, "loss_pixel": pixel_loss(model.detach(), batch, loss)}
    pixel = pixel_loss(model, batch, loss)
    if not loss.adversarial_weight:
        return {"loss": pixel, "loss_pixel": pixel}
    with frozen(discriminator):
        _, fake = discriminate(discriminator, batch.galaxies, model)
    value = pixel + loss.adversarial_weight * adversarial_loss(fake, loss.adversarial)
    return {"loss": value, "loss_pixel": pixel}


@dataclass(frozen=True)
class PairNetworks:
    """The two networks as the step uses them.

    Attributes
    ----------
    generator, discriminator
        As they are updated, wrapped where there are several workers.
    critic
        The discriminator itself.
    features
        For the burn-in; None once it is over.
    """

    generator: nn.Module
    discriminator: nn.Module
    critic: nn.Module
    features: Features | None


Descend = Callable[[str, Tensor], None]
"""Does a step of the optimizer of that name down the gradient of that loss."""


def branched_step(
    networks: PairNetworks, batch: PairBatch, loss: BranchedLoss, descend: Descend
) -> tuple[dict[str, Tensor], Tensor]:
    """Update the discriminator once and the generator once (section 2.2.2).

    Returns
    -------
    scalars, model
        Detached losses ``()``, and the generator's output ``(n, 2, bands, y, x)``.
    """
    model = forward(networks.generator, batch.channels)
    scalars = {}
    if loss.adversarial_weight:
        real, fake = discriminate(networks.discriminator, batch.galaxies, model.detach())
        scalars["loss_discriminator"] = discriminator_loss(real, fake)
        descend("discriminator", scalars["loss_discriminator"])
    losses = generator_loss(model, batch, loss, networks.critic, networks.features)
    descend("generator", losses["loss"])
    return {name: value.detach() for name, value in (losses | scalars).items()}, model.detach()
