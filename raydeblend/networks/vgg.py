"""Deep features of images, compared in the burn-in of the branched network.

Reiman & Göhre (2019, section 2.2.2) compare the activations of VGG-19's deepest convolution
(configuration E of Simonyan & Zisserman 2014, trained on ImageNet).  Those weights are a download
for the user; without them the deepest convolution of a counter trained here on galaxies is used.
The paper calls that layer "the deepest convolutional layer" and also "the fourteenth overall";
the deepest of VGG-19 is the sixteenth, and that is taken.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.networks.counter import Counter
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import load_weights, shipped_path

VGG19_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Width and number of 3x3 convolutions of each stage; a 2x2 maximum ends all but the last."""
# The statistics with which torchvision's weights were trained, red first.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Features(nn.Module, ABC):
    """What feature networks have in common: frozen, and three channels with the bluest first."""

    def freeze(self) -> Features:
        """Return itself, ready for use as a part of a loss."""
        return self.eval().requires_grad_(False)

    @abstractmethod
    def forward(self, image: Tensor, sigmas: Tensor) -> Tensor:
        """Map ``(n, 3, y, x)`` in [0, 1] to ``(n, features, y', x')``.

        `sigmas` is how many standard deviations of the noise a pixel value of 1 is,
        ``(n, 1, 1, 1)``.
        """


class Vgg19Features(Features):
    """VGG-19 to the activation after its sixteenth and last convolution."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, convolutions in VGG19_STAGES:
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, image: Tensor, sigmas: Tensor) -> Tensor:
        """Return the activations ``(n, 512, y / 16, x / 16)``; the noise does not matter here."""
        activations: Tensor = self.features((image.flip(1) - self.mean) / self.std)
        return activations


class CounterFeatures(Features):
    """A counter of galaxies to the activation after its last convolution."""

    def __init__(self, counter: Counter, scaling: Scaling) -> None:
        super().__init__()
        # Without the last maximum, so that both networks end in the same way.
        self.features = counter.convolutions[:-1]
        self.scaling = scaling

    def forward(self, image: Tensor, sigmas: Tensor) -> Tensor:
        """Return the activations ``(n, features, y / 16, x / 16)``."""
        channels, _ = self.scaling.apply(image * sigmas)
        activations: Tensor = self.features(channels)
        return activations


def load_features(vgg19: str | None, device: torch.device | str = "cpu") -> Features:
    """Return VGG-19 with the weights at the path `vgg19`, or the shipped counter for None.

    Raises
    ------
    ConfigError
        If the file is missing, damaged or of another network.
    """
    if vgg19 is not None:
        return load_vgg19(vgg19).to(device)
    counter, card = load_weights(shipped_path("counter"), device)
    if not isinstance(counter, Counter) or card.scaling.channels(3) != 3:
        raise ConfigError("the shipped counter does not take three channels; give VGG-19's weights")
    return CounterFeatures(counter, card.scaling).freeze()


def load_vgg19(path: str) -> Features:
    """Read VGG-19's convolutions from a file of torchvision's state dict.

    Parameters
    ----------
    path
        ``.safetensors``, or else a file of ``torch.save``, which is read without running code.
        The classifier's entries may be there and are ignored.

    Raises
    ------
    ConfigError
        If the file is missing, damaged or of another layout.
    """
    tensors = _read_tensors(path)
    network = Vgg19Features()
    needed = network.state_dict()
    for name, tensor in needed.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            raise ConfigError(
                f"{path} is not a state dict of torchvision's VGG-19: {name} must be a tensor of "
                f"shape {tuple(tensor.shape)}"
            )
    network.load_state_dict({name: tensors[name] for name in needed})
    return network.freeze()


def _read_tensors(path: str) -> Mapping[str, Tensor]:
    try:
        if path.endswith(".safetensors"):
            tensors: dict[str, Tensor] = safetensors.torch.load(storage.read_bytes(path))
            return tensors
        with storage.open_file(path) as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ConfigError(f"{path} is not a file of tensors: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ConfigError(f"{path} is not a state dict of tensors")
    return content
