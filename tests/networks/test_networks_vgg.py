"""VGG-19's features from files in torchvision's layout, and the counter's in their place."""

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from raydeblend.errors import ConfigError
from raydeblend.networks.vgg import load_features, load_vgg19
from raydeblend.networks.weights import load_weights, shipped_path

# Where torchvision's vgg19().features has its convolutions, and their widths.
PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
WIDTHS = (64, 64, 128, 128, *[256] * 4, *[512] * 8)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = {"classifier.6.bias": torch.zeros(1000)}
    channels = 3
    for place, width in zip(PLACES, WIDTHS, strict=True):
        weight = torch.randn(width, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
        state[f"features.{place}.weight"] = weight
        state[f"features.{place}.bias"] = 0.1 * torch.randn(width)
        channels = width
    return state


@pytest.fixture(scope="module")
def saved(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(tensors, path)
    return path


def deepest(tensors: dict[str, Tensor], rgb: Tensor) -> Tensor:
    """The network written out: a maximum before convolutions 3, 5, 9 and 13."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (rgb - mean[:, None, None]) / std[:, None, None]
    for number, place in enumerate(PLACES, start=1):
        if number in (3, 5, 9, 13):
            x = F.max_pool2d(x, 2)
        weight, bias = tensors[f"features.{place}.weight"], tensors[f"features.{place}.bias"]
        x = F.relu(F.conv2d(x, weight, bias, padding=1))
    return x


def test_features_are_those_of_the_sixteenth_convolution(
    tensors: dict[str, Tensor], saved: Path
) -> None:
    image = torch.rand(1, 3, 32, 32)
    features = load_vgg19(str(saved))
    # Bluest first in, as everywhere in this package.
    activations = features(image, torch.ones(1, 1, 1, 1))
    torch.testing.assert_close(activations, deepest(tensors, image.flip(1)), rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in features.parameters())
    assert sum(p.numel() for p in features.parameters()) == 20_024_384


def test_safetensors_are_read_too(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "vgg19.safetensors"
    safetensors.torch.save_file(tensors, path)
    read = load_features(str(path)).state_dict()
    torch.testing.assert_close(read["features.34.weight"], tensors["features.34.weight"])


class Code:
    """What a pickle may do when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("a file ran code",)


def test_a_pickle_with_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"features.0.weight": Code()}, path)
    with pytest.raises(ConfigError, match="not a file of tensors"):
        load_vgg19(str(path))
    path.write_bytes(pickle.dumps(Code()))
    with pytest.raises(ConfigError, match="not a file of tensors"):
        load_vgg19(str(path))
    assert "ran code" not in capsys.readouterr().out


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file"):
        load_vgg19(str(tmp_path / "missing.pth"))
    torch.save({"features.0.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"features.0.weight must be .*64, 3, 3, 3"):
        load_vgg19(str(tmp_path / "other.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="not a state dict"):
        load_vgg19(str(tmp_path / "list.pth"))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(ConfigError, match="not a file of tensors"):
        load_vgg19(str(tmp_path / "cut.safetensors"))


def test_without_a_file_the_counter_looks_at_the_galaxies() -> None:
    features = load_features(None)
    counter, card = load_weights(shipped_path("counter"))
    image = torch.rand(2, 3, 64, 64)
    sigmas = torch.tensor([50.0, 500.0])[:, None, None, None]
    seen: list[Tensor] = []
    counter.convolutions[-2].register_forward_hook(lambda *a: seen.append(a[2].clone()))
    counter(torch.asinh(image * sigmas) / card.scaling.softening)
    torch.testing.assert_close(features(image, sigmas), seen[0], rtol=1e-3, atol=1e-4)
