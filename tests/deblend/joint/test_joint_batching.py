"""Many blends in one scene, as on a GPU: each is fitted as the compiled code fits it alone."""

from dataclasses import dataclass

import galsim
import numpy as np
import pytest
import torch

from raydeblend.deblend.joint import batching
from raydeblend.deblend.joint.blend_fit import FitRequest
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.fitting import fit_requests, render
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.splits import split_scores

SCALE, SIZE = 0.2, 44
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 2)
JOINT = JointDeblender.load("cpu")


@dataclass(frozen=True)
class Batched(FitSettings):
    """Settings of a CPU that is used as a GPU is."""

    @property
    def compiled(self) -> bool:
        return False


@pytest.fixture(scope="module")
def requests() -> list[FitRequest]:
    """Blends of two, one, no and again two sources."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 2, SIZE, SIZE))
    places = [[(15.0, 20.0), (25.0, 22.0)], [(22.0, 21.0)], [], [(17.0, 17.0), (27.0, 27.0)]]
    for image, xy in zip(images, places, strict=True):
        for i, (x, y) in enumerate(xy):
            galaxy = galsim.Exponential(half_light_radius=0.3 + 0.1 * i, flux=1500 - 700 * i)
            stamp = galsim.Image(SIZE, SIZE, scale=SCALE, xmin=0, ymin=0)
            galsim.Convolve(galaxy, SEEING).drawImage(stamp, center=galsim.PositionD(x, y))
            image += stamp.array
    images = images.astype(np.float32)
    stamps, _ = JOINT.make_stamps(images, np.ones_like(images), None, PSF, SCALE)
    return [
        FitRequest(stamp, np.reshape(xy, (-1, 2)).astype(float), np.zeros(len(xy), dtype=bool))
        for stamp, xy in zip(stamps, places, strict=True)
    ]


def test_a_batch_is_what_the_compiled_fit_finds(requests: list[FitRequest]) -> None:
    with torch.inference_mode():
        batched = fit_requests(requests, Batched(JOINT.priors, JOINT.device))
    alone = fit_requests(requests, JOINT.settings)
    assert [len(fit.theta) for fit in batched] == [2, 1, 0, 2]
    for one, other, request in zip(batched, alone, requests, strict=True):
        assert one.objective == pytest.approx(other.objective, abs=0.05)
        off = np.abs(one.total - other.total) / other.flux_err
        assert off.size == 0 or off.max() < 0.2
        if len(one.theta):
            images = batching.render(request.stamp, one, JOINT.device)
            same = render(request.stamp, one, JOINT.device)
            np.testing.assert_allclose(images, same, atol=1e-5 * float(same.max()))


def test_how_many_go_together_changes_no_fit(
    requests: list[FitRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Batched(JOINT.priors, JOINT.device)
    with torch.inference_mode():
        together = fit_requests(requests, settings)
        monkeypatch.setattr(batching, "BATCH_VALUES", 1)
        each = fit_requests(requests, settings)
    for one, other in zip(together, each, strict=True):
        np.testing.assert_allclose(one.total, other.total, atol=1e-2 * one.flux_err.max(initial=1))


def test_split_scores_are_those_of_the_compiled_code(requests: list[FitRequest]) -> None:
    stamp = requests[0].stamp
    (fit,) = fit_requests(requests[:1], JOINT.settings)
    offsets = np.array([[1.5, 0.0], [0.0, 1.5]])
    with torch.inference_mode():
        batched = split_scores(stamp, fit, offsets, Batched(JOINT.priors, JOINT.device))
    alone = split_scores(stamp, fit, offsets, JOINT.settings)
    assert alone.min() > 0
    np.testing.assert_allclose(batched, alone, rtol=0.02, atol=0.05)
