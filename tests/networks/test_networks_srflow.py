"""The super-resolution flow: shapes, paths, and what it samples where the answer is known."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from raydeblend.networks.srflow import (
    Condition,
    Sampling,
    Srflow,
    SrflowConfig,
    embedded,
    half_width,
    target,
)
from raydeblend.networks.srgan import SrganConfig
from raydeblend.networks.weights import build_network

GENERATOR = SrganConfig(features=8, blocks=1, fine_features=8, fine_layers=1)
CONFIG = SrflowConfig(widths=(16, 16, 16), embedding=8, generator=GENERATOR)


@pytest.fixture(scope="module")
def network() -> Srflow:
    torch.manual_seed(0)
    return Srflow(CONFIG).eval()


@pytest.mark.parametrize(("bands", "sources"), [(1, False), (1, True), (7, True)])
def test_samples_have_three_times_as_many_pixels(bands: int, sources: bool) -> None:
    generator = replace(GENERATOR, bands=bands, sources=sources)
    network = Srflow(replace(CONFIG, bands=bands, generator=generator)).eval()
    condition = network.condition(torch.rand(2, bands, 11, 14))
    samples = network.samples(condition, Sampling(samples=3, steps=2))
    assert samples.shape == (3, 2, bands, 33, 42)
    assert float(samples.abs().max()) < 1


def test_a_card_builds_the_same_network(network: Srflow) -> None:
    built = build_network("srflow", asdict(CONFIG))
    assert built.config == CONFIG
    shapes = {name: values.shape for name, values in network.state_dict().items()}
    assert {name: values.shape for name, values in built.state_dict().items()} == shapes


def test_the_generator_is_frozen_and_stays_as_in_use() -> None:
    network = Srflow(CONFIG)
    network.train()
    assert network.training
    assert not any(module.training for module in network.generator.modules())
    assert not any(p.requires_grad for p in network.generator.parameters())


def test_samples_depend_on_the_seed_and_not_on_the_company(network: Srflow) -> None:
    low = torch.rand(3, 1, 12, 12)
    both = network.samples(network.condition(low), Sampling(2, 2))
    alone = network.samples(network.condition(low[1:2]), Sampling(2, 2))
    # Half precision adds up in another order.
    assert torch.allclose(both[:, 1:2], alone, atol=1e-3)
    other = network.samples(network.condition(low), Sampling(2, 2, seed=1))
    assert not torch.allclose(both, other, atol=1e-2)


def test_where_the_velocity_is_that_of_a_gaussian_so_are_the_samples(
    network: Srflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ends drawn from N(m, s²) the velocity is known in closed form."""
    mean, width = 0.8, 0.3

    def velocity(self: Srflow, state: Tensor, time: float, condition: Condition) -> Tensor:
        # E[x_1 - x_0 | x_t] of the joint Gaussian of x_0 and x_1.
        variance = (1 - time) ** 2 + (time * width) ** 2
        slope = (time * width**2 - (1 - time)) / variance
        return mean + slope * (state - time * mean)

    monkeypatch.setattr(Srflow, "_velocity", velocity)
    condition = network.condition(torch.zeros(1, 1, 20, 20))
    images = network.samples(condition, Sampling(samples=20, steps=20))
    ends = target(network, condition, images)
    assert float(ends.mean()) == pytest.approx(mean, abs=0.02)
    assert float(ends.std()) == pytest.approx(width, rel=0.05)


def test_inflation_moves_samples_from_their_mean(network: Srflow) -> None:
    condition = network.condition(torch.rand(2, 1, 12, 12))
    wider = Srflow(replace(CONFIG, inflation=1.5)).eval()
    wider.load_state_dict(network.state_dict())
    before, after = (each.samples(condition, Sampling(4, 2)) for each in (network, wider))
    assert torch.allclose(after.mean(dim=0), before.mean(dim=0), atol=1e-5)
    ratio = after.std(dim=0) / before.std(dim=0)
    assert torch.allclose(ratio, torch.tensor(1.5), rtol=1e-3)
    one = wider.samples(condition, Sampling(1, 2))
    assert torch.allclose(one, before[:1], atol=1e-5)


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_a_further_sample_is_in_the_interval_as_often_as_said(level: float) -> None:
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn((9, 40000), generator=random)
    samples, further = drawn[:8], drawn[8]
    reach = half_width(8, level) * samples.std(dim=0)
    inside = ((further - samples.mean(dim=0)).abs() <= reach).float().mean()
    assert float(inside) == pytest.approx(level, abs=0.01)


def test_ends_are_in_units_of_the_spread(network: Srflow) -> None:
    condition = network.condition(torch.rand(2, 1, 12, 12))
    image = condition.generated + 2 * CONFIG.spread
    assert torch.allclose(target(network, condition, image), torch.tensor(2.0), atol=1e-4)


def test_times_are_told_apart() -> None:
    codes = embedded(torch.linspace(0, 1, 21), 64)
    distances = torch.cdist(codes, codes) + 10 * torch.eye(21)
    assert float(distances.min()) > 0.5
