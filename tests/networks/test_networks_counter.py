import pytest
import torch
from torch import nn

from raydeblend.networks.counter import CLASSES, Counter, CounterConfig

# Simonyan & Zisserman 2014, configuration D: 14,714,688 convolution parameters, of which 4,224
# are biases that batch normalization makes superfluous.
VGG16_CONVOLUTION_WEIGHTS = 14_714_688 - 4_224


def test_paper_size_is_vgg16() -> None:
    with torch.device("meta"):
        network = Counter(CounterConfig())
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert len(convolutions) == 13
    assert sum(m.weight.numel() for m in convolutions) == VGG16_CONVOLUTION_WEIGHTS
    assert [(m.in_features, m.out_features) for m in linear] == [
        (512 * 7 * 7, 4096),
        (4096, 4096),
        (4096, CLASSES),
    ]


@pytest.mark.parametrize("side", [24, 33, 80])
def test_stamps_of_any_size_give_four_logits(side: int) -> None:
    network = Counter(CounterConfig(width_divisor=16, hidden=8, pooled=2)).eval()
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 4)
