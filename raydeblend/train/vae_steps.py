"""One training step of the autoencoders, without Ray: tensors in, loss and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raydeblend.networks.scaling import Scaling
from raydeblend.networks.vae import Posterior
from raydeblend.train.vae_blends import CenteredBatch

FLUX_FLOOR = 0.01
"""Least standard deviation of ln flux in the loss: errors below one percent are good enough."""
HUBER = 3.0
"""Standard deviations beyond which an error of ln flux counts linearly."""


@dataclass(frozen=True)
class VaeLoss:
    """The negative evidence lower bound of Higgins et al. 2016, in nats per image.

    Attributes
    ----------
    beta
        Weight of the divergence from the prior; 0.01 in debvader (Arcelin et al. 2021).
    model_error
        Error of a pixel, as a fraction of its light, that counts as much as the noise; 0 gives
        the plain Gaussian likelihood, in which a few bright galaxies outweigh all others.
    flux_weight
        Weight of the likelihood of each band's true ln(flux) under the posterior, which trains
        both the flux and the width that its uncertainty is read from.
    """

    beta: float = 0.01
    model_error: float = 0.1
    flux_weight: float = 10.0

    def __call__(
        self, output: tuple[Tensor, Tensor, Tensor, Tensor], target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare the output of a `Vae` with the noiseless galaxy ``(n, bands, y, x)``.

        Returns
        -------
        loss, parts
            ``()``, and what it is the sum of, detached.
        """
        model, mean, log_sigma, moments = output
        variance = 1 + (self.model_error * target) ** 2
        pixels = 0.5 * ((model - target) ** 2 / variance).sum(dim=(1, 2, 3))
        divergence = Posterior(mean, log_sigma).divergence()
        flux = flux_surprise(moments, target).mean(dim=1)
        # The logarithm keeps a hopeless blend from outweighing the rest of its batch.
        value = (100 * torch.log1p(pixels / 100)).mean()
        loss = value + self.beta * divergence.mean() + self.flux_weight * flux.mean()
        parts = {"pixels": value, "divergence": divergence.mean(), "flux": flux.mean()}
        return loss, {name: part.detach() for name, part in parts.items()}


def flux_surprise(moments: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of the true ln flux, ``(n, bands)``; Gaussian with linear wings.

    Parameters
    ----------
    moments
        ``(n, 2, bands)`` mean and standard deviation.
    target
        ``(n, bands, y, x)`` in noise units; fluxes below 1 count as 1.
    """
    truth = target.sum(dim=(2, 3)).clamp(min=1).log()
    sigma = (moments[:, 1] ** 2 + FLUX_FLOOR**2).sqrt()
    pull = (moments[:, 0] - truth) / sigma
    return nn.functional.huber_loss(
        pull, torch.zeros_like(pull), reduction="none", delta=HUBER
    ) + torch.log(sigma)


def encode_decode(
    network: nn.Module, image: Tensor, scaling: Scaling, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run a `Vae` (or its data-parallel wrapper) on images in noise units; float32 out."""
    channels, _ = scaling.apply(image)
    with torch.autocast(image.device.type, torch.bfloat16):
        model, mean, log_sigma, moments = network(
            channels.contiguous(memory_format=torch.channels_last), image, noise
        )
    return model.float(), mean.float(), log_sigma.float(), moments.float()


def vae_step(
    network: nn.Module,
    batch: CenteredBatch,
    scaling: Scaling,
    loss: VaeLoss,
    noise: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Encode noisy images, decode one sample of each, compare with the true centered galaxy."""
    return loss(encode_decode(network, batch.image, scaling, noise), batch.target)


@torch.no_grad()
def vae_scores(
    network: nn.Module, batches: Sequence[CenteredBatch], scaling: Scaling, latent: int
) -> dict[str, float]:
    """Flux residuals of the posterior's mean over all bands (Table 1), and of its width.

    Returns
    -------
    ``flux_bias`` (median), ``flux_nmad`` and ``flux_std`` of F / F_true - 1, and ``flux_pull``,
    1.4826 times the median of |ln F - ln F_true| / sigma: 1 if the widths are right.
    """
    network.eval()
    errors, pulls = [], []
    for batch in batches:
        noise = batch.image.new_zeros(len(batch.image), latent)
        model, _, _, moments = encode_decode(network, batch.image, scaling, noise)
        truth = batch.target.sum(dim=(2, 3)).clamp(min=1)
        errors.append(model.sum(dim=(1, 2, 3)) / truth.sum(dim=1) - 1)
        pulls.append(((moments[:, 0] - truth.log()) / moments[:, 1]).flatten())
    network.train()
    error, pull = torch.cat(errors), torch.cat(pulls)
    bias = error.median()
    return {
        "flux_bias": float(bias),
        "flux_nmad": float(1.4826 * (error - bias).abs().median()),
        "flux_std": float(error.std()),
        "flux_pull": float(1.4826 * pull.abs().median()),
    }
