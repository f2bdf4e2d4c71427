import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from raydeblend.train.losses import DeblendLoss, flux_error, psnr, ssim


def images(seed: int) -> torch.Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_l1_is_equation_1() -> None:
    model, truth = images(0), images(1)
    loss, chosen = DeblendLoss("l1")(model, truth[:, None])
    assert loss.item() == pytest.approx(np.abs(model.numpy() - truth.numpy()).mean(), rel=1e-6)
    assert chosen.tolist() == [0] * 4


def test_psnr_agrees_with_scikit_image() -> None:
    model, truth = images(0), images(1)
    expected = [
        peak_signal_noise_ratio(t.numpy(), m.numpy(), data_range=1)
        for m, t in zip(model, truth, strict=True)
    ]
    np.testing.assert_allclose(psnr(model, truth), expected, rtol=1e-5)


def test_ssim_agrees_with_scikit_image_on_bright_and_on_dark_pictures() -> None:
    rng = torch.Generator().manual_seed(2)
    dark = 0.02 + 0.01 * torch.randn(4, 3, 20, 31, generator=rng)
    noise = torch.randn(dark.shape, generator=rng)
    black = torch.zeros_like(dark)
    for truth, model in ((images(0), images(1)), (dark, dark + 0.01 * noise), (black, dark)):
        expected = [
            structural_similarity(
                t.numpy().astype(float), m.numpy().astype(float), data_range=1, channel_axis=0
            )
            for m, t in zip(model, truth, strict=True)
        ]
        np.testing.assert_allclose(ssim(model, truth), expected, atol=2e-5)
    assert ssim(black, black).tolist() == [1.0] * 4


def test_log_mse_ranks_as_psnr_does() -> None:
    truth = images(1)
    loss, _ = DeblendLoss("log_mse")(images(0), truth[:, None])
    expected = -psnr(images(0), truth).mean() * np.log(10) / 20
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_flux_error_is_relative_and_at_most_one() -> None:
    truth = torch.ones(1, 2, 4, 4)
    model = torch.stack([torch.full((4, 4), 1.1), torch.full((4, 4), 9.0)])[None]
    assert flux_error(model, truth).item() == pytest.approx((0.1 + 1) / 2, rel=1e-5)


@pytest.mark.parametrize(("ratio", "expected"), [(0.95, 1), (0.5, 0)])
def test_equally_bright_galaxies_may_be_peeled_in_either_order(ratio: float, expected: int) -> None:
    first = torch.zeros(1, 1, 8, 8)
    first[..., 2, 2] = 1
    second = torch.zeros(1, 1, 8, 8)
    second[..., 6, 6] = ratio
    loss, chosen = DeblendLoss("l1", tie_ratio=0.8)(second, torch.stack([first, second], dim=1))
    assert chosen.item() == expected
    assert (loss.item() == 0) == bool(expected)
