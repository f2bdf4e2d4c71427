"""The counter: VGG-16 with four classes, 0, 1, 2 and "3 or more" galaxies.

Wang et al. 2022, section II.C; VGG-16 is configuration D of Simonyan & Zisserman 2014.  The
paper trains it from scratch at a learning rate of 0.1 and does not say how; batch normalization,
without which that rate diverges, is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

CLASSES = 4
VGG16_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Width and number of 3x3 convolutions of each stage; a 2x2 maximum ends each."""


@dataclass(frozen=True)
class CounterConfig:
    """Size of the network.

    Attributes
    ----------
    in_channels
        Channels of the scaled input.
    width_divisor
        Divides the widths of VGG-16's 13 convolutions; 1 is VGG-16 itself.
    hidden
        Width of the two hidden fully connected layers; 4096 in VGG-16.
    pooled
        Side of the grid that the last stage is averaged to, so that stamps may have any size;
        7 in VGG-16 for 224-pixel images.
    dropout
        Before each of the last two layers; 0.5 in VGG-16.
    """

    in_channels: int = 3
    width_divisor: int = 1
    hidden: int = 4096
    pooled: int = 7
    dropout: float = 0.5


class Counter(nn.Module):
    """13 convolutions and 3 fully connected layers."""

    def __init__(self, config: CounterConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        channels = config.in_channels
        for width, convolutions in VGG16_STAGES:
            for _ in range(convolutions):
                layers += _convolution(channels, width // config.width_divisor)
                channels = width // config.width_divisor
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.convolutions = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(config.pooled)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * config.pooled**2, config.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, in_channels, y, x)`` to the logits ``(n, 4)``."""
        logits: Tensor = self.classifier(self.pool(self.convolutions(x)))
        return logits


def _convolution(channels: int, width: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
