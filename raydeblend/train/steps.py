"""One training step of each network, without Ray: tensors in, loss and scalars out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import BlendBatch
from raydeblend.train.losses import DeblendLoss, flux_error, psnr
from raydeblend.train.peeling import PeelBatch
from raydeblend.train.state import Scalars


def rdn_step(
    network: nn.Module, batch: PeelBatch, scaling: Scaling, loss: DeblendLoss
) -> tuple[Tensor, Tensor, Tensor]:
    """Peel a batch once and compare (Wang et al. 2022, Eq. 1).

    Returns
    -------
    loss, model, chosen
        ``()``; ``(n, bands, y, x)`` in the unit of ``batch.image``; ``(n,)`` the source that the
        model stands for.
    """
    channels, maximum = scaling.apply(batch.image)
    model = forward(network, torch.cat([channels, batch.context], dim=1))
    value, chosen = loss(model, batch.sources / maximum[:, None])
    return value, model * maximum, chosen


def counter_step(
    network: nn.Module, image: Tensor, n_sources: Tensor, scaling: Scaling
) -> tuple[Tensor, Tensor]:
    """Classify a batch; cross-entropy (Eq. 2) and accuracy.

    `image` is ``(n, bands, y, x)`` in noise units; classes are 0, 1, 2 and 3 or more.
    """
    channels, _ = scaling.apply(image)
    logits = forward(network, channels)
    label = n_sources.clamp(max=3)
    accuracy = (logits.argmax(dim=1) == label).float().mean()
    return F.cross_entropy(logits, label), accuracy.detach()


@torch.no_grad()
def rdn_scores(
    network: nn.Module, blends: BlendBatch, scaling: Scaling, loss: DeblendLoss, batch: int = 32
) -> Scalars:
    """Peel blends twice; mean PSNR (dB) and flux error of each peel.

    Blends of one galaxy count for the first peel only.  A tie in brightness may be peeled in
    either order, as `loss` says.
    """
    network.eval()
    first = PeelBatch.of(blends)
    collected: dict[str, list[Tensor]] = {}
    everything = torch.arange(len(first.n_sources), device=first.image.device)
    for rows in torch.split(everything, batch):
        stage = first.select(rows)
        scale = stage.image.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1.0)
        for peel in (1, 2):
            _, model, chosen = rdn_step(network, stage, scaling, loss)
            truth = stage.sources[torch.arange(len(chosen), device=chosen.device), chosen]
            collected.setdefault(f"psnr_{peel}", []).append(psnr(model / scale, truth / scale))
            collected.setdefault(f"flux_error_{peel}", []).append(flux_error(model, truth))
            left = stage.n_sources > 1
            stage, scale = stage.peel(model, chosen).select(left), scale[left]
    network.train()
    return {name: float(torch.cat(values).mean()) for name, values in collected.items()}
