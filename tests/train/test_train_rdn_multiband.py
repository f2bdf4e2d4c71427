"""What the run of several bands is trained on, and what it can begin from."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from raydeblend.errors import ConfigError
from raydeblend.networks.rdn import Rdn
from raydeblend.networks.weights import Card, save_weights
from raydeblend.train.networks import get_config, get_training
from raydeblend.train.rdn_multiband import PRESETS, first_network, isolated_sets


def test_surveys_are_rendered_in_the_bands_that_they_have() -> None:
    config = get_config(
        "rdn-multiband", "small", n_galaxies=1000, data="stamps", catalog="catsim.fits"
    )
    sets = {
        folder: (c.bands, c.realistic, n) for folder, (c, n) in isolated_sets(config, "x").items()
    }
    assert sets == {
        "x/paper": (("g", "r", "i"), False, 500),
        "x/LSST": (("u", "g", "r", "i", "z", "y"), True, 250),
        "x/HSC": (("g", "r", "i", "z", "y"), True, 250),
    }
    configs = [c for c, _ in isolated_sets(config, "x").values()]
    assert [c.catalog for c in configs] == ["catsim.fits", None, None]
    assert [c.stamps for c in configs] == [None, "stamps", "stamps"]
    assert len({c.seed for c in configs}) == 3


@pytest.mark.parametrize("bands", [("g", "r"), ("g", "r", "i", "w")])
def test_bands_without_colors_or_those_of_the_paper_are_refused(bands: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="bands must be g, r, i and any of u, z, y"):
        get_config("rdn-multiband", "tiny", bands=bands)


def test_the_small_one_begins_as_the_shipped_one_of_three_bands() -> None:
    config = get_config("rdn-multiband", "small")
    assert (config.model.in_channels, config.model.out_channels) == (2 * 6 + 2 * 6, 6)
    begun = get_training(config).build()["rdn"]
    trunk = begun.blocks[0].fusion.weight
    assert not torch.equal(trunk, Rdn(config.model).blocks[0].fusion.weight)


def test_a_run_goes_on_from_its_own_kind(tmp_path: Path) -> None:
    config = get_config("rdn-multiband", "tiny")
    network = Rdn(config.model)
    card = Card("rdn-multiband", asdict(config.model), config.bands, (0.15, 0.25), config.scaling)
    path = save_weights(str(tmp_path), "rdn-multiband", network, card)
    begun = first_network(replace(config, rdn_weights=path))
    assert torch.equal(begun.output.weight, network.output.weight)


@pytest.mark.parametrize("weights", ["rdn", "counter"])
def test_weights_of_another_size_or_network_are_refused(weights: str) -> None:
    config = replace(PRESETS["tiny"].fitted(), rdn_weights=weights)
    with pytest.raises(ConfigError, match=f"{weights} is "):
        first_network(config)
    scaling = PRESETS["small"].scaling
    with pytest.raises(ConfigError, match=f"{weights} is "):
        first_network(replace(config, scaling=scaling).fitted())
