"""Groups of the realistic population: their skies, stars and the split of real galaxies."""

import numpy as np
import pytest

from raydeblend.simulate import isolated_realistic
from raydeblend.simulate.isolated import IsolatedGroup
from raydeblend.simulate.isolated_realistic import EXPOSURE, PIXEL_SCALE, draw_sky, realistic_group
from raydeblend.simulate.population.stamps import Stamps, find_stamps
from raydeblend.survey import get_survey

LSST = get_survey("LSST")
NONE = find_stamps(None, "train")


def group(n: int = 8, stamps: tuple[Stamps, Stamps] = (NONE, NONE)) -> IsolatedGroup:
    rng = np.random.default_rng(2)
    is_validation = np.arange(n) % 4 == 0
    return realistic_group(LSST, ("g", "i"), is_validation, stamps, rng, 48, 23.0)


def test_a_sky_has_the_noise_of_its_exposure_and_pixels() -> None:
    rng = np.random.default_rng(1)
    skies = [draw_sky(LSST, rng) for _ in range(40)]
    for sky in skies:
        band, own = LSST.band("i"), sky.band("i")
        exposure = own.electrons_per_njy / band.electrons_per_njy
        assert EXPOSURE[0] <= exposure <= EXPOSURE[1]
        assert PIXEL_SCALE[0] <= sky.pixel_scale <= PIXEL_SCALE[1]
        # Noise in nJy grows with a pixel's side and falls with the root of the time.
        expected = band.sky_sigma * sky.pixel_scale / LSST.pixel_scale / np.sqrt(exposure)
        assert own.sky_sigma == pytest.approx(expected)
    assert 10 < sum(sky.pixel_scale == LSST.pixel_scale for sky in skies) < 30


def test_stars_look_like_the_psf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_realistic, "STARS", 1.0)
    stars = group()
    images = stars.images.astype(float)
    height = images.max(axis=(2, 3)) / images.sum(axis=(2, 3))
    psf = stars.psf.max(axis=(1, 2))
    # Up to half a pixel off the middle, and the stamp cuts off some of the wings.
    assert ((height < 1.03 * psf) & (height > 0.85 * psf)).all()


def test_galaxies_are_there_and_those_of_either_side_have_their_own_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    draw = isolated_realistic.draw_realistic
    monkeypatch.setattr(
        isolated_realistic,
        "draw_realistic",
        lambda magnitude, bands, rng, stamps: (
            asked.append((len(magnitude), stamps)),
            draw(magnitude, bands, rng, stamps),
        )[1],
    )
    monkeypatch.setattr(isolated_realistic, "STARS", 0.0)
    other = find_stamps(None, "validation")
    images = group(8, (NONE, other)).images
    assert [(n, stamps is own) for (n, stamps), own in zip(asked, (NONE, other), strict=True)] == [
        (6, True),
        (2, True),
    ]
    assert images.shape == (8, 2, 48, 48)
    assert (images.sum(axis=(2, 3), dtype=float) > 1).all()
