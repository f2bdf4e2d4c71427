"""Weights of one's own in place of those shipped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import raydeblend
from raydeblend.config import CatalogConfig
from raydeblend.deblend import load_deblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.provenance import weight_hashes
from raydeblend.evaluate.common.request import Request
from raydeblend.evaluate.protocol import check_request
from raydeblend.networks.weights import load_card, load_weights, save_weights, shipped_path
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.entries import plain
from raydeblend.pipeline.ledger import Run, differences
from raydeblend.simulate.protocols import wang2022_blends


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves: the shipped branched network, whose models are a tenth brighter."""
    folder = tmp_path_factory.mktemp("trained")
    network, card = load_weights(shipped_path("branched"))
    with torch.no_grad():
        list(network.parameters())[-1].mul_(1.1)
    save_weights(str(folder), "branched", network, card)
    save_weights(str(folder / "checkpoints"), "other", network, card)
    return folder


def test_a_folder_and_a_file_of_weights_are_used(trained: Path) -> None:
    sha256 = load_card(str(trained / "branched.safetensors")).sha256
    for given in (str(trained), str(trained / "branched.safetensors")):
        assert load_deblender("branched", weights=given).weights_hash.startswith(sha256[:16])
    assert not load_deblender("branched").weights_hash.startswith(sha256[:16])
    data = wang2022_blends(2, seed=3)
    models = [
        raydeblend.load("branched", weights=given)(data["blend2"], psf=data["psf"]).models
        for given in (None, str(trained))
    ]
    assert models[0].shape != models[1].shape or not np.allclose(*models, rtol=1e-3)


def test_the_shipped_counter_stands_beside_an_rdn_of_ones_own(tmp_path: Path) -> None:
    save_weights(str(tmp_path), "rdn", *load_weights(shipped_path("rdn")))
    own = load_deblender("rdn", weights=str(tmp_path))
    assert own.weights_hash == load_deblender("rdn").weights_hash


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        (
            "rdn",
            "{trained}",
            "holds no .* rdn.safetensors, rdn-multiband.safetensors, counter.safetensors",
        ),
        ("rdn", "{trained}/branched.safetensors", "is a branched, not an rdn"),
        ("rdn", "{trained}/missing", "no file or folder"),
        ("rdn", "shipped-by-nobody", "there are branched"),
        ("joint", "{trained}", "joint has no network .* rdn"),
        ("own:Own", "{trained}", "of your own"),
    ],
)
def test_weights_that_cannot_be_are_one_sentence(
    trained: Path, name: str, given: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load_deblender(name, weights=given.format(trained=trained))


def test_a_run_knows_weights_by_their_content(trained: Path, tmp_path: Path) -> None:
    config = CatalogConfig(bands=("g", "r", "i"), deblender="branched", weights=str(trained))
    moved = replace(config, weights=str(tmp_path))
    shipped = replace(config, weights=None)
    assert config.hash == moved.hash == shipped.hash
    first = _run(config, DeblendCell(config).weights_hash)
    assert not differences(first, _run(moved, first.weights["branched"]))
    (said,) = differences(first, _run(shipped, DeblendCell(shipped).weights_hash))
    assert said.startswith("weights (")


def _run(config: CatalogConfig, weights_hash: str) -> Run:
    return Run("/tiles", plain(vars(config)), config.hash, {config.deblender: weights_hash}, {}, {})


def test_an_evaluation_says_which_weights_it_used(trained: Path) -> None:
    hashes = weight_hashes(str(trained))
    path = str(trained / "branched.safetensors")
    assert hashes[path] == load_card(path).sha256
    assert hashes["rdn"] == load_card(shipped_path("rdn")).sha256
    assert len(hashes) == len(weight_hashes()) + 1
    request = Request("wang2022", ("rdn",), None, 3, "out", weights=str(trained))
    check_request(request)
    assert request.own_weights == {"rdn": str(trained)}
    assert ["--weights", str(trained)] == request.command()[-4:-2]
    for names in (None, ("rdn", "vae")):
        with pytest.raises(ConfigError, match="one deblender"):
            check_request(replace(request, deblenders=names))


def test_a_device_that_is_not_there_is_one_sentence() -> None:
    for device in ("cuda:9", "gpu"):
        with pytest.raises(ConfigError, match=f"no device '{device}' here; there are: cpu"):
            raydeblend.load("branched", device=device)
