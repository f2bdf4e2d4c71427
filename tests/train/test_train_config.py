"""Presets against the paper, the learning-rate schedules, and what is refused."""

import dataclasses
import math
from pathlib import Path

import pytest

from raydeblend.errors import ConfigError
from raydeblend.survey import survey_key
from raydeblend.train.config import check_workers, config_hash, learning_rate_at
from raydeblend.train.export import count_parameters
from raydeblend.train.isolated import isolated_of
from raydeblend.train.networks import NETWORKS, get_config


def test_rdn_is_trained_as_in_the_paper() -> None:
    config = get_config("rdn")
    assert (config.model.blocks, config.model.layers) == (16, 8)
    assert (config.learning_rate, config.batch, config.epochs) == (1e-4, 128, 150)
    # An epoch shows as many blends of exactly two galaxies as the paper's training set holds.
    assert config.steps == math.ceil(50_000 / 128)
    assert config.recipe.n_sources == (0, 0, 1, 0, 0)
    assert (config.recipe.stamp, config.loss.kind, config.scaling.kind) == (80, "l1", "maximum")
    rates = {learning_rate_at(config, step) for step in (0, 391 * 75, 391 * 150 - 1)}
    assert rates == {1e-4}


def test_counter_is_trained_as_in_the_paper() -> None:
    config = get_config("counter")
    assert (config.learning_rate, config.batch, config.epochs) == (0.1, 200, 200)
    assert config.steps * config.batch == 400_000
    assert config.recipe.n_sources == (0.25, 0.25, 0.25, 0.25, 0)
    assert config.recipe.noiseless == 0.5
    at = [learning_rate_at(config, epoch * config.steps) for epoch in (0, 59, 60, 120, 160, 199)]
    assert at == pytest.approx([0.1, 0.1, 0.02, 0.004, 0.0008, 0.0008])


def test_cosine_with_warmup() -> None:
    config = get_config("rdn", "tiny", schedule="cosine", warmup=3, steps=100, epochs=2)
    rate = config.learning_rate
    assert learning_rate_at(config, 0) == pytest.approx(rate / 4)
    assert learning_rate_at(config, 100) == pytest.approx(0.505 * rate)
    assert learning_rate_at(config, 199) == pytest.approx(0.01 * rate, rel=0.02)


@pytest.mark.parametrize("preset", ["paper", "small", "tiny"])
@pytest.mark.parametrize("network", ["rdn", "counter"])
def test_channels_follow_bands_and_scaling(network: str, preset: str) -> None:
    config = get_config(network, preset, bands=("g", "i"))
    assert config.model.in_channels == config.scaling.channels(2)
    assert network == "counter" or config.model.out_channels == 2


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_every_network_has_three_presets_that_know_their_names(network: str) -> None:
    presets = NETWORKS[network].presets
    assert set(presets) == {"paper", "small", "tiny"}
    for name, preset in presets.items():
        assert (preset.network, preset.preset) == (network, name)


def test_hash_tells_runs_apart_but_lets_them_go_on() -> None:
    config = get_config("rdn", "tiny")
    assert config_hash(config) == config_hash(get_config("rdn", "tiny", epochs=99))
    for change in ({"seed": 1}, {"batch": 4}, {"bands": ("r",)}, {"schedule": "cosine"}):
        assert config_hash(get_config("rdn", "tiny", **change)) != config_hash(config)
    blurred = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, stamp=48))
    assert config_hash(blurred) != config_hash(config)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"network": "resnet"}, "unknown network 'resnet'; known: rdn, rdn-multiband, counter"),
        ({"preset": "huge"}, "unknown preset 'huge'; known: paper, small, tiny"),
        ({"surveys": ("ACME",)}, "unknown survey"),
        ({"surveys": ()}, "at least one survey"),
        ({"bands": ("g", "q")}, "no band 'q'"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"n_galaxies": 4}, "at least 16"),
        ({"schedule": "steps"}, "unknown schedule 'steps'; known: constant, mile"),
        ({"optimizer": "lion"}, "unknown optimizer"),
        ({"stamps": 3}, "rdn has no training option 'stamps'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        get_config(**({"network": "rdn", "preset": "tiny"} | arguments))


@pytest.mark.parametrize(("workers", "said"), [(0, "at least 1"), (3, "shared equally")])
def test_workers_must_share_the_batch(workers: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_workers(get_config("rdn", "tiny"), workers)


def test_workers_between_two_numbers_need_not_divide_the_batch() -> None:
    config = get_config("rdn", "tiny", batch=8)
    check_workers(config, 3, min_workers=1)
    with pytest.raises(ConfigError, match="8 cannot be shared equally by 3 workers"):
        check_workers(config, 3)
    for workers, fewest in ((2, 3), (9, 1), (2, 0)):
        with pytest.raises(ConfigError, match=f"{fewest} to {workers} workers with a batch of 8"):
            check_workers(config, workers, fewest)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_parameters_of_the_paper_size_are_counted(network: str) -> None:
    counts = count_parameters(get_config(network, "paper"))
    assert next(iter(counts)) == network
    assert min(counts.values()) > 0
    # Compared with formulas in tests/networks; these two are written out there.
    known = {"gan": {"gan": 3_574_657}, "rdn": {"rdn": 22_012_611}}
    assert known.get(network, counts) == counts


def test_a_survey_of_ones_own_is_its_text_in_the_run_and_its_name_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: Own\npixel_scale: 0.214\nmirror_diameter: 2.65\nbands:\n"
        + "".join(
            f"  {b}: {{wavelength: 600, psf_fwhm: 0.7, zero_point: 33, sky: 21}}\n" for b in "gri"
        )
    )
    key = survey_key(str(path))
    path.unlink()
    config = get_config("rdn", "tiny", surveys=(key, "HSC"))
    assert config.pixel_scale() == (0.168, 0.214)
    assert config.describe_data().startswith("Own and HSC: ")
    assert [folder.rpartition("/")[2] for folder in isolated_of(config, "root")] == ["Own", "HSC"]
    with pytest.raises(ConfigError, match="a survey is given twice in HSC, HSC"):
        get_config("rdn", "tiny", surveys=("HSC", "HSC"))
