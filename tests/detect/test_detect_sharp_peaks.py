"""Sharp peaks: analytic positions, close pairs, masks, borders, crowded fields, empty noise."""

import galsim
import numpy as np
import pytest

from raydeblend.detect.sharp_peaks import PeakRule, SharpPeaks, find_sharp_peaks, psf_sigma
from raydeblend.errors import ConfigError

S = 2.0
"""Standard deviation of the PSF in pixels."""


def gaussian(xy: tuple[float, float], peak: float, size: int = 61, s: float = S) -> np.ndarray:
    y, x = np.indices((size, size))
    return peak * np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * s**2))


PSF = gaussian((15, 15), 1.0, 31)


def find(image: np.ndarray, **rule: float) -> SharpPeaks:
    return find_sharp_peaks(image, PSF, 1.0, PeakRule(**rule))


def test_the_width_of_a_psf() -> None:
    assert psf_sigma(PSF) == pytest.approx(S, rel=0.01)
    kolmogorov = galsim.Kolmogorov(fwhm=0.6).drawImage(nx=41, ny=41, scale=0.18, method="no_pixel")
    assert psf_sigma(kolmogorov.array) == pytest.approx(0.6 / 0.18 / 2.3548, rel=0.03)


@pytest.mark.parametrize("xy", [(30.0, 30.0), (30.3, 29.6), (22.45, 37.1)])
def test_position_and_significance_of_a_single_source(xy: tuple[float, float]) -> None:
    peaks = find(gaussian(xy, 10.0))
    assert len(peaks) == 1
    assert peaks.xy[0] == pytest.approx(xy, abs=0.02)
    # The matched filter's signal-to-noise ratio: peak · √(π) s for unit noise, at a pixel's center.
    assert peaks.significance[0] == pytest.approx(10 * np.sqrt(np.pi) * S, rel=0.06)


@pytest.mark.parametrize("angle", [0.0, 0.5, 0.9])
def test_close_pairs_are_two_where_the_formula_says(angle: float) -> None:
    """Separable above 1.58 √2 s = 2.24 s; the image itself has two maxima only above 2 s."""
    for separation, expected in ((2.0 * S, 1), (2.6 * S, 2)):
        half = 0.5 * separation * np.array([np.cos(angle), np.sin(angle)])
        image = gaussian(tuple(30 - half), 300.0) + gaussian(tuple(30 + half), 300.0)
        peaks = find(image, contrast=0.0, relative=0.0)
        assert len(peaks) == expected, separation
        if expected == 2:
            found = peaks.xy[np.argsort(peaks.xy[:, 0])]
            assert found == pytest.approx(np.array([30 - half, 30 + half]), abs=0.8)


def test_less_smoothing_separates_closer_pairs() -> None:
    image = gaussian((30 - S, 30), 300.0) + gaussian((30 + S, 30), 300.0)
    assert len(find(image, contrast=0.0)) == 1
    assert len(find(image, contrast=0.0, smoothing=0.5)) == 2


def test_a_faint_source_on_the_flank_of_a_bright_one() -> None:
    image = gaussian((30, 30), 60.0) + gaussian((37, 30), 6.0)
    # It makes no maximum of the image through the matched filter: Gaussians of √2 S.
    row = sum(gaussian((x, 30), peak, s=S * 2**0.5)[30] for x, peak in ((30, 60.0), (37, 6.0)))
    assert (np.diff(row[30:]) < 0).all()
    # The bright one's ring pushes it outwards.
    assert find(image).xy[:, 0] == pytest.approx([30.0, 38.0], abs=1.0)


def test_a_smooth_galaxy_is_one_peak() -> None:
    galaxy = galsim.Convolve(
        galsim.Sersic(n=2, half_light_radius=0.6, flux=1e5).shear(g1=0.4, g2=0.2),
        galsim.Gaussian(sigma=S * 0.1),
    )
    image = galaxy.drawImage(nx=101, ny=101, scale=0.1).array
    peaks = find(image, smoothing=0.6)
    assert peaks.xy == pytest.approx(np.array([[50.0, 50.0]]), abs=0.05)


def test_masked_pixels_make_no_peaks() -> None:
    rng = np.random.default_rng(3)
    image = gaussian((20, 20), 20.0) + gaussian((41, 40), 20.0) + rng.standard_normal((61, 61))
    mask = np.zeros(image.shape, dtype=bool)
    # A bad column beside one source, a saturated blob on the other.
    mask[:, 23], mask[36:45, 37:46] = True, True
    dirty = image.copy()
    dirty[:, 23] = 1e4
    dirty[38:42, 39:43] = np.nan
    peaks = find_sharp_peaks(dirty, PSF, 1.0, mask=mask)
    assert peaks.xy == pytest.approx(np.array([[20.0, 20.0]]), abs=0.4)


def test_sources_at_the_border() -> None:
    image = gaussian((2.0, 30.0), 30.0) + gaussian((30.0, 58.5), 30.0)
    found = find(image).xy
    assert found[np.argsort(found[:, 0])] == pytest.approx(
        np.array([[2.0, 30.0], [30.0, 58.5]]), abs=0.3
    )
    assert not len(find(np.full((61, 61), 5.0)))


def test_noise_at_the_border_makes_no_more_peaks() -> None:
    found = [
        find(np.random.default_rng(seed).standard_normal((64, 64)), threshold=4.0).xy
        for seed in range(300)
    ]
    # The outer 3 pixels are 18 % of the image, and 50,000 of 1.2 million pixels hold a peak each.
    xy = np.concatenate(found)
    border = (np.abs(xy - 31.5) > 28.5).any(axis=1)
    assert border.sum() <= 0.18 * len(xy) + 3 * np.sqrt(0.18 * len(xy)) + 1


def test_false_peaks_of_empty_noise() -> None:
    """White noise of 2048² pixels of 0.18", 37.7 arcmin²; Gaussian peaks fall steeply."""
    noise = np.random.default_rng(5).standard_normal((2048, 2048))
    area = (2048 * 0.18 / 60) ** 2
    rates = [len(find(noise, threshold=t)) / area for t in (3.0, 4.0, 5.0)]
    # All peaks of the smoothed field, of variance v and spectral moment <k²> = 1 / s²
    # (Bardeen et al. 1986; high peaks in two dimensions): n(> t) = t exp(-t²/2) / ((2π)^1.5 2 s²)
    # per pixel.  Those that are peaks of the curvature, significant too, are fewer.
    expected = [
        (60 / 0.18) ** 2 * t * np.exp(-(t**2) / 2) / ((2 * np.pi) ** 1.5 * 2 * S**2)
        for t in (3.0, 4.0, 5.0)
    ]
    assert 0.2 * expected[0] < rates[0] < expected[0]
    assert 0.2 * expected[1] < rates[1] < expected[1]
    assert rates[2] < 0.1


def test_a_crowded_field_is_found_completely() -> None:
    rng = np.random.default_rng(6)
    # A jittered grid: no two nearer than 8 pixels, 4 s.
    base = np.stack(np.meshgrid(np.arange(20, 490, 12), np.arange(20, 490, 12)), -1).reshape(-1, 2)
    truth = base + rng.uniform(-2, 2, base.shape)
    image = rng.standard_normal((512, 512))
    for xy in truth:
        x, y = np.round(xy).astype(int)
        image[y - 15 : y + 16, x - 15 : x + 16] += gaussian(tuple(xy - (x - 15, y - 15)), 8.0, 31)
    found = find(image).xy
    distance = np.hypot(*(found[:, None] - truth[None]).transpose(2, 0, 1))
    assert (distance.min(axis=0) < 1.0).mean() > 0.995
    assert (distance.min(axis=1) > 2.0).sum() == 0


def test_noise_may_differ_from_pixel_to_pixel() -> None:
    rng = np.random.default_rng(8)
    sigma = np.where(np.arange(400) < 200, 1.0, 5.0) * np.ones((400, 1))
    noise = rng.standard_normal((400, 400)) * sigma
    image = noise + gaussian((100, 200), 5.0, 400) + gaussian((300, 200), 5.0, 400)
    peaks = find_sharp_peaks(image, PSF, sigma)
    assert peaks.xy == pytest.approx(np.array([[100.0, 200.0]]), abs=0.5)


def test_bad_arguments_are_said() -> None:
    image = np.zeros((20, 20))
    with pytest.raises(ConfigError, match="one image"):
        find_sharp_peaks(image[None], PSF, 1.0)
    with pytest.raises(ConfigError, match="sigma has shape"):
        find_sharp_peaks(image, PSF, np.ones(3))
    with pytest.raises(ConfigError, match="must be positive"):
        find_sharp_peaks(image, PSF, 0.0)
    assert len(find_sharp_peaks(np.full((20, 20), np.nan), PSF, 1.0)) == 0
