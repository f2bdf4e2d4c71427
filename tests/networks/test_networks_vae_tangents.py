"""Derivatives of a decoder's galaxies, against finite differences and by hand."""

import numpy as np
import torch

from raydeblend.networks.vae import Vae, VaeConfig
from raydeblend.networks.vae_tangents import galaxies, linearize, main_directions

SIDE = 16


class _Linear(torch.nn.Module):
    """Shapes that do not change; latent variable j changes ln flux by its weight."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights = torch.tensor(weights)

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = torch.full((len(z), 1, SIDE, SIDE), 1 / SIDE**2)
        return shape, 5 + (z @ self.weights)[:, None]


def test_derivatives_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    decoder = Vae(VaeConfig(2, SIDE, (4, 8), 5, 12, 2)).decoder.double()
    z, directions = torch.randn(3, 5).double(), torch.randn(4, 5).double()
    with torch.inference_mode():
        # The network decodes in single precision where no autocast asks for less.
        drawn, tangents = linearize(decoder.float(), z.float(), directions.float())
        torch.testing.assert_close(drawn, galaxies(decoder, z.float()))
        for k, direction in enumerate(directions.float()):
            up, down = (galaxies(decoder, z.float() + h * direction) for h in (1e-2, -1e-2))
            difference = (up - down) / 2e-2
            error = (tangents[:, k] - difference).abs().max() / difference.abs().max()
            assert float(error) < 0.01


def test_a_change_of_flux_alone_by_hand() -> None:
    z = torch.tensor([[0.2, -0.1, 0.0]])
    drawn, tangents = linearize(_Linear([2.0, 0.5, 0.0]), z, torch.eye(3))
    flux = float(np.exp(5 + 0.4 - 0.05))
    assert float(drawn.sum()) == np.float32(flux) or abs(float(drawn.sum()) / flux - 1) < 1e-5
    np.testing.assert_allclose(
        tangents.sum(dim=(2, 3, 4))[0], [2 * flux, 0.5 * flux, 0], rtol=1e-5, atol=1e-3
    )


def test_the_first_direction_changes_galaxies_most() -> None:
    directions = main_directions(_Linear([0.3, -0.4, 0.0, 1.2]), 4, 2)
    assert directions.shape == (2, 4)
    expected = np.array([0.3, -0.4, 0.0, 1.2]) / 1.3
    assert abs(float(directions[0] @ torch.tensor(expected).float())) > 0.9999
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-5)
    assert main_directions(_Linear([1.0]), 1, 16).shape == (1, 1)
