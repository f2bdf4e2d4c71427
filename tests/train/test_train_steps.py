"""The step functions, the stream of peels and the counter's batches, on one device without Ray."""

import copy

import numpy as np
import pytest
import torch

from raydeblend.networks.counter import Counter, CounterConfig
from raydeblend.networks.rdn import Rdn, RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import BlendBatch, BlendRecipe, IsolatedImages
from raydeblend.train.counting import CountStream, make_peel
from raydeblend.train.losses import DeblendLoss
from raydeblend.train.peeling import PeelBatch, PeelStream
from raydeblend.train.state import update_average
from raydeblend.train.steps import counter_step, rdn_scores, rdn_step

SCALING = Scaling("maximum+asinh")
LOSS = DeblendLoss("log_mse", flux_weight=0.2, tie_ratio=0.8)
RECIPE = BlendRecipe(stamp=32, max_shift=6, n_sources=(0, 0.2, 0.5, 0.3, 0), brighten=0.0)


@pytest.fixture(scope="module")
def isolated() -> IsolatedImages:
    rng = torch.Generator().manual_seed(0)
    axis = torch.arange(48) - 47 / 2
    width = 1.5 + 2 * torch.rand(40, 1, 1, generator=rng)
    peak = 10 ** (1 + torch.rand(40, 3, 1, 1, generator=rng))
    shape = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * width**2))
    images = (peak * shape[:, None]).half()
    sky, width = torch.full((1, 3), 200.0), torch.full((1, 3), 1.5)
    return IsolatedImages(images, torch.tensor([0]), torch.tensor([40]), sky, width)


def network() -> Rdn:
    torch.manual_seed(1)
    return Rdn(RdnConfig(6, 3, blocks=2, layers=2, features=16, growth=8, downscale=2))


def test_the_deblender_learns(isolated: IsolatedImages) -> None:
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    stream = PeelStream(isolated, RECIPE, seed=2)
    losses = []
    for _ in range(80):
        batch = stream.draw(16)
        loss, model, chosen = rdn_step(net, batch, SCALING, LOSS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stream.feed_back(batch, model, chosen)
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < np.mean(losses[:3]) - 0.4


def test_the_counter_learns(isolated: IsolatedImages) -> None:
    torch.manual_seed(1)
    net = Counter(CounterConfig(width_divisor=16, hidden=16, pooled=2, dropout=0.0))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    recipe = BlendRecipe(32, 6, (0.5, 0.5, 0, 0, 0), 0.0, 0.5)
    accuracies = []
    for batch, _ in zip(CountStream(isolated, recipe, 32, seed=2), range(50), strict=False):
        loss, accuracy = counter_step(net, batch.image, batch.n_sources, Scaling("asinh"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracies.append(accuracy.item())
    assert np.mean(accuracies[-10:]) > 0.9


def test_peeling_the_truth_leaves_the_other_galaxies(isolated: IsolatedImages) -> None:
    batch = PeelStream(isolated, RECIPE, seed=3).draw(32)
    rows = torch.arange(32)
    chosen = (batch.n_sources > 1).long()
    left = batch.peel(batch.sources[rows, chosen], chosen)
    torch.testing.assert_close(left.n_sources, batch.n_sources - 1)
    expected = batch.sources.sum(dim=1) - batch.sources[rows, chosen]
    torch.testing.assert_close(left.sources.sum(dim=1), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(left.image, batch.image - batch.sources[rows, chosen])
    flux = left.sources.sum(dim=(2, 3, 4))
    assert (flux.diff(dim=1) <= 1e-3).all()


def test_a_stream_feeds_back_residuals_that_still_hold_galaxies(isolated: IsolatedImages) -> None:
    stream = PeelStream(isolated, RECIPE, seed=4, residual_fraction=0.5)
    first = stream.draw(16)
    stream.feed_back(first, first.sources[:, 0], torch.zeros(16, dtype=torch.long))
    second = stream.draw(16)
    several = first.select(first.n_sources > 1)
    expected = several.image - several.sources[:, 0]
    kept = min(8, len(expected))
    torch.testing.assert_close(second.image[-kept:], expected[:kept])
    assert (second.n_sources > 0).all()


def test_a_stream_put_back_gives_the_same_images(isolated: IsolatedImages) -> None:
    stream, again = (PeelStream(isolated, RECIPE, seed, residual_fraction=0.5) for seed in (4, 9))
    batch = stream.draw(8)
    stream.feed_back(batch, 0.9 * batch.sources[:, 0], torch.zeros(8, dtype=torch.long))
    again.load_state_dict(stream.state_dict())
    expected, drawn = stream.draw(8), again.draw(8)
    for name, tensor in vars(expected).items():
        assert torch.equal(getattr(drawn, name), tensor)


def test_the_counter_sees_residuals_with_the_number_that_is_left(isolated: IsolatedImages) -> None:
    def perfect(batch: PeelBatch) -> PeelBatch:
        return batch.peel(batch.sources[:, 0], torch.zeros(len(batch.n_sources), dtype=torch.long))

    recipe = BlendRecipe(32, 6, (0, 0, 1, 0, 0), 0.0, 1.0)
    batches = CountStream(isolated, recipe, 8, 5, perfect, residual_fraction=0.5)
    first, second = next(batches), next(batches)
    assert first.n_sources.tolist() == [2] * 8
    assert second.n_sources.tolist() == [2] * 4 + [1] * 4
    torch.testing.assert_close(second.image[4:], first.sources[:4, 1], atol=1e-3, rtol=1e-4)


def test_a_trained_deblender_peels_whichever_galaxy_its_model_is_nearer_to() -> None:
    class Fainter(torch.nn.Module):
        def forward(self, channels: torch.Tensor) -> torch.Tensor:
            model = torch.zeros_like(channels)
            model[..., 2, 2] = channels[..., 2, 2]
            return model

    sources = torch.zeros(1, 2, 1, 8, 8)
    sources[0, 0, 0, 6, 6], sources[0, 1, 0, 2, 2] = 100, 90
    blend = sources.sum(dim=1)
    batch = PeelBatch(blend, sources, torch.tensor([2]), blend[:, :0])
    left = make_peel(Fainter(), Scaling("maximum"))(batch)
    torch.testing.assert_close(left.sources[0, 0], sources[0, 0])


def test_the_average_forgets_at_the_given_rate() -> None:
    net = network()
    average = copy.deepcopy(net)
    start = net.output.bias.detach().clone()
    with torch.no_grad():
        net.output.bias += 1
    update_average(average, net, decay=0.9)
    torch.testing.assert_close(average.output.bias, start + 0.1)


def test_scores_of_a_second_peel_leave_out_blends_of_one() -> None:
    class Brightest(torch.nn.Module):
        """Returns the brighter half of the image, left or right, which holds one galaxy."""

        def forward(self, channels: torch.Tensor) -> torch.Tensor:
            left = channels.clone()
            left[..., 8:] = 0
            right = channels - left
            brighter = left.sum(dim=(1, 2, 3)) >= right.sum(dim=(1, 2, 3))
            return torch.where(brighter[:, None, None, None], left, right)

    sources = torch.zeros(2, 4, 1, 16, 16)
    sources[:, 0, 0, 4, 4] = 100
    sources[1, 1, 0, 4, 12] = 50
    blend = sources.sum(dim=1)
    blends = BlendBatch(blend, sources, torch.tensor([1, 2]), blend[:, :0])
    scores = rdn_scores(Brightest(), blends, Scaling("maximum"), DeblendLoss("l1"))
    assert scores["flux_error_1"] == pytest.approx(0, abs=0.01)
    # With the blend of one galaxy counted, its missing second galaxy would be an error of 1.
    assert scores["flux_error_2"] == pytest.approx(0, abs=0.01)
