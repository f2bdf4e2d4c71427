"""The autoencoder: shapes, its normalized shapes and linear flux, its frozen decoder."""

import numpy as np
import pytest
import torch
from scipy import stats

from raydeblend.networks.vae import Posterior, Vae, VaeConfig, freeze_decoder

SMALL = VaeConfig(bands=3, stamp=32, filters=(8, 16), latent=6, hidden=20, downscale=2)


def network(config: VaeConfig = SMALL) -> Vae:
    torch.manual_seed(0)
    return Vae(config).eval()


def run(net: Vae, n: int = 5) -> tuple[torch.Tensor, ...]:
    image = torch.randn(n, net.config.bands, net.config.stamp, net.config.stamp)
    return net(torch.asinh(image), image, torch.zeros(n, net.config.latent))


def test_the_paper_size_is_debvaders() -> None:
    # Counted by hand from its layers, with a posterior of independent Gaussians.
    net = Vae(VaeConfig())
    stages, channels = 0, 1
    for width in (32, 64, 128, 256):
        stages += 9 * channels * width + width + 9 * width * width + width + 2 * width
        channels = width
    encoder = stages + 256 * 16 * 64 + 64
    assert sum(p.numel() for p in net.encoder.parameters()) == encoder
    assert run(net, 2)[0].shape == (2, 1, 64, 64)


def test_models_have_the_flux_of_the_posterior() -> None:
    net = network()
    model, mean, log_sigma, moments = run(net)
    assert model.shape == (5, 3, 32, 32)
    assert mean.shape == log_sigma.shape == (5, 6)
    assert moments.shape == (5, 2, 3)
    assert (model >= 0).all()
    torch.testing.assert_close(model.sum(dim=(2, 3)).log(), moments[:, 0], atol=1e-4, rtol=1e-5)


def test_the_width_of_the_flux_is_that_of_samples() -> None:
    net = network()
    _, mean, log_sigma, moments = run(net, 1)
    noise = torch.randn(40_000, 6, generator=torch.Generator().manual_seed(1))
    samples = net.decoder.log_flux(Posterior(mean, log_sigma).sample(noise))
    torch.testing.assert_close(samples.std(dim=0), moments[0, 1], rtol=0.02, atol=0)


def test_the_divergence_is_that_of_two_gaussians() -> None:
    posterior = Posterior(torch.tensor([[0.5, -1.0]]), torch.tensor([[-1.0, 0.3]]))
    x = np.linspace(-12, 12, 200_001)
    expected = 0.0
    for mean, log_sigma in ((0.5, -1.0), (-1.0, 0.3)):
        q = stats.norm(mean, np.exp(log_sigma))
        expected += np.trapezoid(q.pdf(x) * (q.logpdf(x) - stats.norm.logpdf(x)), x)
    assert float(posterior.divergence()) == pytest.approx(expected, rel=1e-4)


def test_apertures_measure_fluxes_in_units_of_their_noise() -> None:
    net = network(VaeConfig(1, 32, (8, 16), 4, 10, 2, apertures=(2.0, 5.0)))
    noise = torch.randn(4000, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    flux = torch.einsum("nbyx,ayx->na", noise, net.encoder.weights)
    np.testing.assert_allclose(flux.std(dim=0), [1, 1], rtol=0.05)
    # A constant image in a Gaussian of width s and unit norm: sum w = 2 sqrt(pi) s.
    assert float(net.encoder.weights[0].sum()) == pytest.approx(2 * np.sqrt(np.pi) * 2, rel=1e-3)


def test_a_frozen_decoder_has_no_gradient() -> None:
    net = freeze_decoder(network()).train()
    run(net)[0].sum().backward()
    assert all(p.grad is None for p in net.decoder.parameters())
    assert all(p.grad is not None for p in net.encoder.parameters())
