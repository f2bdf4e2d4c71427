"""The second pass, with a network that knows that all galaxies are the same round blob."""

import numpy as np
import pytest
import torch
from blobs import BrightestBlob, blob, scene
from torch import Tensor

from raydeblend.deblend.peeling.config import PEELING
from raydeblend.deblend.peeling.second_pass import (
    deblend_again,
    recover_missed,
    second_pass,
)

NO_PEAKS = [np.zeros((0, 2))]


def blobs(*three: tuple[float, float, float], size: int = 32) -> Tensor:
    """Return models ``(1, k, 3, size, size)`` of blobs (y, x, peak)."""
    return torch.stack([torch.stack([blob(*b, size=size)] * 3) for b in three])[None]


def test_galaxies_are_deblended_again_without_their_neighbors() -> None:
    """Each blob has exp(-2) of its peak at the other, which the first peel takes for its own."""
    image = torch.from_numpy(scene((10, 10, 100.0), (10, 14, 60.0)))
    network = BrightestBlob()
    first = network(image)
    assert first[0, 0, 10, 10].item() == pytest.approx(100 + 60 * np.exp(-2), rel=1e-4)
    peeled = torch.stack([first, network(image - first)], dim=1)
    refined = second_pass(image, peeled, NO_PEAKS, network)
    peaks = [refined[0, 0, 0, 10, 10].item(), refined[0, 1, 0, 10, 14].item()]
    # No more sweeps are made for what is less than a hundredth of a galaxy.
    assert peaks == pytest.approx([100, 60], rel=1e-2)


def test_a_galaxy_without_neighbors_or_that_would_become_another_stays() -> None:
    """Without the fainter blob's model the brightest thing at its turn is a third, unpeeled one."""
    far = (8, 8, 100.0), (24, 24, 60.0)
    models = blobs(*far)
    assert torch.equal(
        second_pass(torch.from_numpy(scene(*far)), models, NO_PEAKS, BrightestBlob()), models
    )
    image = torch.from_numpy(scene((10, 10, 100.0), (10, 14, 60.0), (24, 24, 80.0)))
    two = blobs((10, 10, 100.0), (10, 14, 60.0))
    assert torch.equal(second_pass(image, two, NO_PEAKS, BrightestBlob())[0, 1], two[0, 1])


def test_repeats_are_merged_first_and_a_worse_image_is_not_taken() -> None:
    image = torch.from_numpy(scene((10, 10, 100.0)))
    repeats = blobs((10, 10, 90.0), (10, 10, 10.0))
    merged = second_pass(image, repeats, NO_PEAKS, BrightestBlob())[0]
    assert torch.allclose(merged[0], image[0], atol=1e-4)
    assert not merged[1].any()
    # Bars of light are no blobs: each leaves the other's ends, and more with every sweep.
    bars = torch.zeros(1, 2, 3, 32, 32)
    bars[0, 0, :, 10, 8:20], bars[0, 1, :, 13, 8:20] = 100, 60
    bars[0, :, :, 11:13, 8:20] = 30
    assert torch.equal(second_pass(bars.sum(1), bars, NO_PEAKS, BrightestBlob()), bars)


def test_a_peak_without_a_model_gets_one() -> None:
    image = torch.from_numpy(scene((8, 8, 100.0), (20, 22, 60.0)))
    peaks = [np.array([[8.0, 8.0], [22.0, 20.0]])]
    refined = second_pass(image, blobs((8, 8, 100.0)), peaks, BrightestBlob())
    assert refined.shape[1] == 2
    np.testing.assert_allclose(refined[0, 1, 0], blob(20, 22, 60.0), atol=0.05)


def test_a_model_of_two_galaxies_is_taken_apart() -> None:
    """Two equally bright ones, which a network that must choose between them may draw together."""
    image = torch.from_numpy(scene((8, 8, 80.0), (20, 22, 80.0)))
    peaks = [np.array([[8.0, 8.0], [22.0, 20.0]])]
    refined = second_pass(image, image[:, None].clone(), peaks, BrightestBlob())
    np.testing.assert_allclose(refined[0, 0, 0], blob(8, 8, 80.0), atol=0.1)
    np.testing.assert_allclose(refined[0, 1, 0], blob(20, 22, 80.0), atol=0.1)


def test_a_wisp_beside_a_peak_is_not_its_model() -> None:
    image = torch.from_numpy(scene((16, 16, 100.0)))
    peaks = [np.array([[16.0, 16.0]])]
    wisp, whole = blobs((16, 19, 20.0)), blobs((16, 17, 60.0))
    assert recover_missed(image, wisp, peaks, BrightestBlob()).shape[1] == 1
    assert recover_missed(image, whole, peaks, BrightestBlob()).shape[1] == 0


def test_a_peak_on_whose_window_only_another_galaxys_light_falls_gets_no_model() -> None:
    image = torch.from_numpy(scene((16, 10, 1000.0)))
    nothing = torch.zeros(1, 0, 3, 32, 32)
    network = BrightestBlob()
    assert recover_missed(image, nothing, [np.array([[15.0, 16.0]])], network).shape[1] == 0
    both = [np.array([[10.0, 16.0], [17.0, 16.0]])]
    found = recover_missed(image, nothing, both, network)
    assert found.shape[1] == 1
    assert divmod(int(found[0, 0, 0].argmax()), 32) == (16, 10)


def test_stamps_get_as_many_models_as_the_one_with_most() -> None:
    image = torch.from_numpy(
        np.concatenate([scene((8, 8, 90.0)), scene((8, 8, 90.0), (20, 22, 60.0))])
    )
    peaks = [np.array([[8.0, 8.0]]), np.array([[8.0, 8.0], [22.0, 20.0]])]
    found = recover_missed(image, torch.zeros(2, 0, 3, 32, 32), peaks, BrightestBlob())
    assert found.flatten(2).any(2).tolist() == [[True, False], [True, True]]


def test_in_a_large_stamp_the_network_sees_the_surroundings_alone() -> None:
    """A far brighter blob without a model, 80 pixels away, would draw away any other."""
    size = 3 * PEELING.second_pass.min_side
    pair = (20, 20, 100.0), (20, 24, 60.0)
    image = torch.from_numpy(scene(*pair, (100, 100, 1000.0), size=size))
    models = blobs((20, 20, 108.0), (20, 24, 45.0), size=size)
    # Its own tail is cut where a survey's would end in the noise.
    models[models < 0.01] = 0
    again = deblend_again(image, models, 2, BrightestBlob())
    assert again[0, :, 0].amax(dim=(1, 2)).tolist() == pytest.approx([100, 60], rel=1e-2)


def test_what_else_the_network_is_shown_is_cut_like_the_image() -> None:
    size = 3 * PEELING.second_pass.min_side
    image = torch.from_numpy(scene((20, 20, 100.0), (20, 24, 60.0), size=size)).repeat(2, 1, 1, 1)
    models = blobs((20, 20, 108.0), (20, 24, 45.0), size=size).repeat(2, 1, 1, 1, 1)
    models[models < 0.01] = 0
    number = torch.arange(2 * size**2).view(2, 1, size, size)
    seen = set()

    def network(shown: Tensor, numbers: Tensor) -> Tensor:
        brightest = shown[:, 0].flatten(1).argmax(1)
        seen.update(numbers.flatten(1).gather(1, brightest[:, None]).flatten().tolist())
        return BrightestBlob()(shown)

    deblend_again(image, models, 2, network, number)
    assert seen == {stamp * size**2 + 20 * size + x for stamp in (0, 1) for x in (20, 24)}
