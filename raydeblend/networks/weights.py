"""Weights on disk: a safetensors file and a JSON card of the same name next to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.networks.branched import Branched, BranchedConfig
from raydeblend.networks.counter import Counter, CounterConfig
from raydeblend.networks.gan import GanConfig, Generator
from raydeblend.networks.rdn import Rdn, RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srflow import Srflow, SrflowConfig
from raydeblend.networks.srgan import Srgan, SrganConfig
from raydeblend.networks.vae import Vae, VaeConfig
from raydeblend.shipped import SHIPPED

NETWORKS: Mapping[str, tuple[Callable[..., nn.Module], Callable[..., Any]]] = {
    "rdn": (Rdn, RdnConfig),
    "rdn-multiband": (Rdn, RdnConfig),
    "rdn-joint": (Rdn, RdnConfig),
    "counter": (Counter, CounterConfig),
    "rdn-joint-counter": (Counter, CounterConfig),
    "gan": (Generator, GanConfig),
    "branched": (Branched, BranchedConfig),
    "srgan": (Srgan, SrganConfig),
    "srgan-multiband": (Srgan, SrganConfig),
    "srflow": (Srflow, SrflowConfig),
    "vae": (Vae, VaeConfig),
    "vae-deblend": (Vae, VaeConfig),
}
"""What a card calls a network: the module, and the configuration that it is built from."""


@dataclass(frozen=True)
class Card:
    """What a user must know of a set of weights.

    Attributes
    ----------
    network
        One of `NETWORKS`.
    architecture
        Fields of the network's configuration.
    bands
        In the order of the channels.
    pixel_scale
        Arcsec per pixel of the training images, smallest and largest.
    scaling
        How images become input.
    training
        Configuration of the run: data, seed, steps, losses.
    scores
        On galaxies never trained on; each entry says on which data.
    commit
        Of this repository, at training.
    sha256
        Of the safetensors file.
    """

    network: str
    architecture: Mapping[str, Any]
    bands: tuple[str, ...]
    pixel_scale: tuple[float, float]
    scaling: Scaling
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    commit: str = ""
    sha256: str = ""


def build_network(network: str, architecture: Mapping[str, Any], path: str = "") -> nn.Module:
    """Return a network with random weights.

    Parameters
    ----------
    path
        Of the weights that it is built for, for messages.

    Raises
    ------
    ConfigError
        If `network` is unknown, or has no such architecture.
    """
    if network not in NETWORKS:
        raise ConfigError(f"this version knows no network {network!r}")
    kind, config = NETWORKS[network]
    try:
        return kind(config(**architecture))
    except (RuntimeError, TypeError) as error:
        raise _mismatch(path, network, error) from error


def save_weights(root: str, name: str, network: nn.Module, card: Card) -> str:
    """Write ``<root>/<name>.safetensors`` and its card; return the former's path.

    `root` may be local or on s3.  The hash in the written card is that of the written file.
    """
    tensors = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    data = safetensors.torch.save(tensors)
    path = storage.join(root, f"{name}.safetensors")
    storage.write_bytes(path, data)
    content = asdict(card) | {
        "sha256": hashlib.sha256(data).hexdigest(),
        "training": {name: _without_folder(value) for name, value in card.training.items()},
    }
    storage.write_bytes(_card_path(path), (json.dumps(content, indent=2) + "\n").encode())
    return path


def _without_folder(value: object) -> object:
    """Return the name of a file or folder; where it lay on the machine is nobody else's."""
    if isinstance(value, str) and (value.startswith("/") or storage.is_s3(value)):
        return value.rstrip("/").rpartition("/")[2]
    return value


def load_weights(path: str, device: torch.device | str = "cpu") -> tuple[nn.Module, Card]:
    """Read a network, ready for inference, and its card.

    Raises
    ------
    ConfigError
        If a file is missing or damaged, or the two do not belong together.
    """
    card = load_card(path)
    network = build_network(card.network, card.architecture, path)
    return _fill(network, path, card, device), card


def load_into(network: nn.Module, path: str, device: torch.device | str = "cpu") -> Card:
    """Read the weights of a network of one's own into it; return their card.

    The network comes out ready for inference, on `device`.

    Raises
    ------
    ConfigError
        As `load_weights`.
    """
    card = load_card(path)
    _fill(network, path, card, device)
    return card


def _fill(network: nn.Module, path: str, card: Card, device: torch.device | str) -> nn.Module:
    """Read the weights that the card describes into a network."""
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ConfigError(f"{path} is not the file that its card describes (SHA-256 differs)")
    try:
        network.load_state_dict(safetensors.torch.load(data))
    except (RuntimeError, TypeError, SafetensorError) as error:
        raise _mismatch(path, card.network, error) from error
    # mypy knows only some overloads of `to`; channels last is the layout convolutions like.
    return network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _mismatch(path: str, network: str, error: Exception) -> ConfigError:
    reason = str(error).split("\n")[0]
    return ConfigError(f"{path} is not the {network} of its card: {reason}")


def load_card(path: str) -> Card:
    """Read the card next to the weights at `path`.

    Raises
    ------
    ConfigError
        If there is none or it is damaged.
    """
    try:
        content = json.loads(_read(_card_path(path)))
        return Card(
            **content
            | {
                "architecture": _with_tuples(content["architecture"]),
                "bands": tuple(content["bands"]),
                "pixel_scale": tuple(content["pixel_scale"]),
                "scaling": Scaling(**content["scaling"]),
            }
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{_card_path(path)} is not a weights card: {error}") from error


def _with_tuples(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a configuration as they were written; JSON has no tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in architecture.items()
    }


def shipped_weights() -> dict[str, str]:
    """Return the names and paths of the weights inside the package."""
    return {path.stem: str(path) for path in sorted(SHIPPED.glob("*.safetensors"))}


def shipped_path(name: str) -> str:
    """Return the path of the shipped weights called `name`.

    Raises
    ------
    ConfigError
        If none of that name is shipped.
    """
    shipped = shipped_weights()
    if name not in shipped:
        raise ConfigError(f"no weights called {name!r} are shipped; there are {', '.join(shipped)}")
    return shipped[name]


def weights_path(given: str) -> str:
    """Return the path of weights given by a file's path or by a shipped name.

    Raises
    ------
    ConfigError
        If it is a name, and none of that name is shipped.
    """
    return given if "/" in given or given.endswith(".safetensors") else shipped_path(given)


def find_weights(given: str, networks: Sequence[Sequence[str]]) -> list[str | None]:
    """Return the paths of a deblender's networks in what a user gives for them.

    Parameters
    ----------
    given
        A file or a shipped name, of the first network, or a folder that a training left.
    networks
        Names that the weights of each may have.

    Returns
    -------
    One path for each network, None for those that are not there and may be the shipped ones.

    Raises
    ------
    ConfigError
        If there is nothing of that name, or a folder holds none of the networks.
    """
    others = [None] * (len(networks) - 1)
    if given.endswith(".safetensors"):
        return [given, *others]
    if not storage.exists(given):
        if "/" in given:
            raise ConfigError(f"there is no file or folder {given}")
        return [shipped_path(given), *others]
    found = [_weights_in(given, names) for names in networks]
    if not any(found):
        known = ", ".join(f"{name}.safetensors" for names in networks for name in names)
        raise ConfigError(f"{given} holds no weights for this deblender, which would be {known}")
    return found


def one_network(given: str | None, *names: str) -> str:
    """Return the path of one network's weights in what a user gives, else of those shipped.

    `names` are those that its weights may have, the shipped one first; see `find_weights`.
    """
    if given is None:
        return shipped_path(names[0])
    return find_weights(given, [names])[0] or ""


def _weights_in(folder: str, names: Sequence[str]) -> str | None:
    paths = [storage.join(folder, f"{name}.safetensors") for name in names]
    return next((path for path in paths if storage.exists(path)), None)


def weights_below(given: str) -> list[str]:
    """Return the files of weights in a folder, or the file itself; none for a shipped name."""
    if given.endswith(".safetensors"):
        return [given]
    root = storage.absolute(given)
    found = storage.list_files(root, ".safetensors")
    # A training keeps its checkpoints below.
    return [path for path in found if storage.parent(path) == root]


def _card_path(path: str) -> str:
    return path.removesuffix(".safetensors") + ".json"


def _read(path: str) -> bytes:
    try:
        return storage.read_bytes(path)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
