"""The planes beside the image, against numbers worked out by hand."""

import math

import pytest
import torch

from raydeblend.networks.context import USUAL_WIDTH, context_planes


def test_masks_come_first_and_then_widths() -> None:
    mask = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    mask[0, 1, 2, 3] = True
    planes = context_planes(mask, torch.tensor([[USUAL_WIDTH, 2 * USUAL_WIDTH]]))
    assert planes.shape == (1, 4, 4, 4)
    assert torch.equal(planes[:, :2], mask.float())
    assert not planes[0, 2].any()
    assert planes[0, 3].unique().item() == pytest.approx(math.log(2))
