"""Which of a network's models are sources, where they are, and which are of one galaxy."""

import numpy as np
import torch
from blobs import blob

from raydeblend.deblend.sources import (
    Sources,
    galaxies_of,
    positions_of,
    select_sources,
    stack_sources,
)


def test_positions_are_those_of_gaussians_and_nowhere_for_empty_models() -> None:
    models = torch.stack([blob(10.3, 20.6, 5.0), torch.zeros(32, 32)])[:, None].numpy()
    xy = positions_of(models)
    # Half of the peak cuts the core off askew by less than a tenth of a pixel.
    np.testing.assert_allclose(xy[0], [20.6, 10.3], atol=0.1)
    assert np.isnan(xy[1]).all()


def test_models_within_two_pixels_are_of_the_first_ones_galaxy() -> None:
    xy = np.array([[0, 0], [1.9, 0], [3, 0], [np.nan, np.nan], [0, 1], [4.9, 0]])
    # The third is near the second, but not near the galaxy that the second belongs to.
    assert galaxies_of(xy).tolist() == [0, 0, 2, 3, 0, 2]


def test_a_repeat_of_a_galaxy_is_added_to_it() -> None:
    first, second = blob(22, 20, 200.0), blob(22, 21, 20.0)
    models = torch.stack([second, first])[:, None].numpy()
    weight = np.ones((1, 32, 32), dtype=np.float32)
    merged, xy = select_sources(models, weight)
    np.testing.assert_allclose(merged[:, 0], (first + second)[None].numpy(), rtol=1e-6)
    np.testing.assert_allclose(xy, [[20, 22]], atol=0.1)
    models[0] = np.roll(models[0], 8, axis=2)
    assert len(select_sources(models, weight)[0]) == 2


def test_insignificant_models_are_no_sources() -> None:
    # A matched filter sees a Gaussian of sigma 2 with peak p at signal-to-noise p (4 pi)^1/2.
    weight = np.ones((1, 32, 32), dtype=np.float32)
    for peak, n in ((2.9 / np.sqrt(4 * np.pi), 0), (3.1 / np.sqrt(4 * np.pi), 1)):
        models = blob(16, 16, peak)[None, None].numpy()
        assert len(select_sources(models, weight)[0]) == n


def test_stamps_of_fewer_sources_are_padded_by_what_cannot_be_mistaken():
    def found(k, limited):
        models = np.ones((k, 2, 3, 4), np.float32)
        flux = np.arange(2.0 * k).reshape(k, 2)
        return Sources(
            models,
            np.ones((k, 2), np.float32),
            "high" if k else "none",
            {"flux": flux},
            {"std": models},
            {"limited": np.bool_(limited)},
        )

    result = stack_sources([found(0, True), found(2, False), found(1, False)], (3, 2, 3, 4))
    assert result.n_sources.tolist() == [0, 2, 1]
    assert result.quality.tolist() == ["none", "high", "high"]
    assert result.models.sum(axis=(2, 3, 4)).tolist() == [[0, 0], [24, 24], [24, 0]]
    assert np.isnan(result.xy).all(axis=2).tolist() == [[True, True], [False] * 2, [False, True]]
    np.testing.assert_array_equal(result.extra["std"], result.models)
    flux = result.extra["flux"]
    assert flux.dtype == np.float64
    np.testing.assert_array_equal(flux[1:], [[[0, 1], [2, 3]], [[0, 1], [np.nan, np.nan]]])
    assert np.isnan(flux[0]).all()
    assert result.extra["limited"].tolist() == [True, False, False]
    assert stack_sources([], (0, 2, 3, 4)).models.shape == (0, 1, 2, 3, 4)
