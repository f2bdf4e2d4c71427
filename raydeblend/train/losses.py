"""Losses of the deblender: small functions of (model, truth), per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossKind = Literal["l1", "log_mse"]

# Squared error below which an image counts as perfect; -10 log10 of it is 80 dB.
MSE_FLOOR = 1e-8

SSIM_WINDOW = 7
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class DeblendLoss:
    """How a model is compared with the true brightest galaxy.

    Attributes
    ----------
    kind
        ``l1``: Eq. 1 of Wang et al. 2022.  ``log_mse``: the logarithm of the squared error,
        whose mean is the mean PSNR, so that faint blends count as much as bright ones and the
        all-black model is no minimum.
    flux_weight
        Weight of the relative error of each band's total flux.
    tie_ratio
        Two galaxies whose fluxes differ by less than this ratio may be peeled in either order
        (the failure that Wang et al. name in section III.D); 1 turns it off.
    """

    kind: LossKind = "l1"
    flux_weight: float = 0.0
    tie_ratio: float = 1.0

    def __call__(self, model: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and which source each model was compared with.

        Parameters
        ----------
        model
            ``(n, bands, y, x)``.
        sources
            ``(n, k, bands, y, x)`` in the same unit, brightest first.

        Returns
        -------
        loss, chosen
            ``()`` and ``(n,)``, 0 or 1.
        """
        first = self._per_image(model, sources[:, 0])
        if self.tie_ratio >= 1 or sources.shape[1] < 2:
            return first.mean(), torch.zeros(len(model), dtype=torch.long, device=model.device)
        second = self._per_image(model, sources[:, 1])
        flux = sources[:, :2].sum(dim=(2, 3, 4))
        tie = flux[:, 1] > self.tie_ratio * flux[:, 0]
        swap = tie & (second.detach() < first.detach())
        return torch.where(swap, second, first).mean(), swap.long()

    def _per_image(self, model: Tensor, truth: Tensor) -> Tensor:
        difference = model - truth
        if self.kind == "l1":
            loss = difference.abs().mean(dim=(1, 2, 3))
        else:
            loss = 0.5 * torch.log(difference.square().mean(dim=(1, 2, 3)) + MSE_FLOOR)
        if self.flux_weight:
            loss = loss + self.flux_weight * flux_error(model, truth)
        return loss


def flux_error(model: Tensor, truth: Tensor) -> Tensor:
    """Mean over bands of |F - F_true| / F_true, at most 1 each; ``(n,)``."""
    true_flux = truth.sum(dim=(2, 3)).clamp(min=1e-6)
    return ((model.sum(dim=(2, 3)) - true_flux).abs() / true_flux).clamp(max=1).mean(dim=1)


def psnr(model: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (dB) per image for MAX = 1 (Wang et al. 2022, Eq. 5); ``(n,)``."""
    return -10 * torch.log10((model - truth).square().mean(dim=(1, 2, 3)))


def ssim(model: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity for a data range of 1 (Wang et al. 2004, Eq. 13); ``(n,)``.

    Windows of 7 x 7 pixels, all equal and wholly inside; covariances of samples; the mean over
    windows and bands, by default as in scikit-image.

    Parameters
    ----------
    model, truth
        ``(n, bands, y, x)``, at least 7 pixels wide.
    """

    def mean(values: Tensor) -> Tensor:
        # Down, then across: a seventh of the additions.
        return F.avg_pool2d(F.avg_pool2d(values, (SSIM_WINDOW, 1), 1), (1, SSIM_WINDOW), 1)

    samples = SSIM_WINDOW**2
    x, y = mean(model), mean(truth)
    # Of a sample: divided by one less than its size.
    variances = (mean(model * model + truth * truth) - x * x - y * y) * samples / (samples - 1)
    covariance = (mean(model * truth) - x * y) * samples / (samples - 1)
    luminance = (2 * x * y + SSIM_C1) / (x * x + y * y + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variances + SSIM_C2)
    return (luminance * structure).mean(dim=(1, 2, 3))
