import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from raydeblend.errors import ConfigError
from raydeblend.networks.listing import describe_shipped, list_shipped
from raydeblend.networks.rdn import Rdn, RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import (
    Card,
    load_card,
    load_weights,
    save_weights,
    shipped_path,
    shipped_weights,
    weights_path,
)

CONFIG = RdnConfig(blocks=1, layers=1, features=4, growth=4)


def save(root: Path) -> tuple[str, Rdn]:
    network = Rdn(CONFIG)
    card = Card("rdn", asdict(CONFIG), ("g", "r", "i"), (0.17, 0.2), Scaling("maximum"))
    return save_weights(str(root), "test", network, card), network


def test_weights_come_back_with_their_card(tmp_path: Path) -> None:
    path, network = save(tmp_path)
    loaded, card = load_weights(path)
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(loaded(x), network(x))
    assert card.bands == ("g", "r", "i")
    assert card.scaling == Scaling("maximum")
    assert not loaded.training


def test_weights_that_are_not_those_of_the_card_are_refused(tmp_path: Path) -> None:
    path, _ = save(tmp_path)
    data = bytearray(Path(path).read_bytes())
    data[-1] ^= 1
    Path(path).write_bytes(data)
    with pytest.raises(ConfigError, match="SHA-256"):
        load_weights(path)


def test_weights_of_another_size_or_network_are_refused(tmp_path: Path) -> None:
    path, _ = save(tmp_path)
    card = tmp_path / "test.json"
    content = json.loads(card.read_text())
    for change, said in (
        ({"architecture": content["architecture"] | {"features": 8}}, "not the rdn of its card"),
        ({"architecture": {"depth": 3}}, "not the rdn of its card"),
        ({"network": "counter", "architecture": {}}, "not the counter of its card"),
        ({"network": "resnet"}, "knows no network 'resnet'"),
    ):
        card.write_text(json.dumps(content | change))
        with pytest.raises(ConfigError, match=said):
            load_weights(path)


def test_a_damaged_file_with_the_right_hash_is_refused(tmp_path: Path) -> None:
    path, _ = save(tmp_path)
    data = Path(path).read_bytes()[:-7]
    Path(path).write_bytes(data)
    card = tmp_path / "test.json"
    content = json.loads(card.read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}
    card.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="not the rdn of its card"):
        load_weights(path)


def test_missing_and_damaged_cards_are_named(tmp_path: Path) -> None:
    path, _ = save(tmp_path)
    card = tmp_path / "test.json"
    card.write_text(json.dumps({"network": "rdn"}))
    with pytest.raises(ConfigError, match="not a weights card"):
        load_card(path)
    card.unlink()
    with pytest.raises(ConfigError, match="no file"):
        load_card(path)


def test_unknown_weights_name_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="rdn"):
        shipped_path("nonsense")


def test_weights_are_given_by_name_or_file() -> None:
    assert weights_path("rdn") == shipped_path("rdn")
    for file in ("/tmp/run/rdn.safetensors", "rdn.safetensors", "s3://bucket/rdn.safetensors"):
        assert weights_path(file) == file
    with pytest.raises(ConfigError, match="nonsense"):
        weights_path("nonsense")


def test_shipped_weights_load_and_are_small() -> None:
    assert {"rdn", "counter"} <= set(shipped_weights())
    for name, path in shipped_weights().items():
        _, card = load_weights(path)
        assert Path(path).stat().st_size < 8e6
        assert card.scores, name
        assert card.commit, name


def test_the_list_has_a_line_for_each_and_a_card_its_scores() -> None:
    names = [head.split()[0] for head, _ in list_shipped()]
    scores = {"star": "faint 18", "structure": "still split", "suspect": "auc", "bad": "auc"}
    assert names == [*shipped_weights(), *sorted([*scores, "inputs"])]
    assert "PSNR" in describe_shipped("rdn")
    for name, score in scores.items():
        card = describe_shipped(name)
        assert card.splitlines()[1].startswith("trained on: ")
        assert score in card
    with pytest.raises(ConfigError, match="nonsense"):
        describe_shipped("nonsense")


def test_cards_name_files_without_the_folders_of_a_machine(tmp_path: Path) -> None:
    training = {"catalog": "/somewhere/else/catsim.fits", "data": "s3://bucket/hst/", "steps": 3}
    card = Card("rdn", asdict(CONFIG), ("g",), (0.2, 0.2), Scaling("maximum"), training)
    path = save_weights(str(tmp_path), "test", Rdn(CONFIG), card)
    assert load_card(path).training == {"catalog": "catsim.fits", "data": "hst", "steps": 3}
    for shipped in shipped_weights().values():
        assert not re.search(r'"[^"]*[" ]/\w+/', Path(shipped).with_suffix(".json").read_text())
