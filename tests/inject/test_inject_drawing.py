"""What is drawn: a star is the PSF, the light is the flux, the noise that of photons."""

from dataclasses import replace

import numpy as np
import pytest

from raydeblend.inject.config import INJECTION
from raydeblend.inject.drawing import inject, variance_per_light
from raydeblend.inject.places import Ground, choose_places, choose_region
from raydeblend.inject.sources import (
    CONTROL_DISK,
    CONTROL_STAR,
    CONTROLS,
    InjectedSources,
    cell_rng,
    draw_kinds,
    draw_relative,
    draw_sources,
    point_depth,
)
from raydeblend.psf import TilePsf, by_cell, everywhere
from raydeblend.tile import Box, Tile, TileHeader

BANDS, SCALE, SIZE = ("g", "i"), 0.2, 200
SKY = 4.0


def gaussian(sigma, half=20):
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    stamp = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return (stamp / stamp.sum()).astype(np.float32)


@pytest.fixture
def tile():
    shape = (len(BANDS), SIZE, SIZE)
    return Tile(
        header=TileHeader("t", BANDS, (None, None), (SIZE, SIZE), "", SCALE),
        box=Box(0, 0, SIZE, SIZE),
        image=np.zeros(shape, np.float32),
        variance=np.full(shape, SKY, np.float32),
        unusable=np.zeros(shape, bool),
        saturated=np.zeros((SIZE, SIZE), bool),
        psf=TilePsf((everywhere(gaussian(2.0)), everywhere(gaussian(2.5)))),
    )


def ground(tile, peaks=(), density=0.0):
    usable = ~tile.unusable.any(axis=0)
    return Ground(usable, (0, 0), np.reshape(peaks, (-1, 2)).astype(float), density, SCALE)


def some_sources(tile, n=9, seed=0):
    rng = np.random.default_rng(seed)
    depth = point_depth(tile, 1)
    return draw_sources(n, tile.box, depth, ground(tile), tile.psf, BANDS, INJECTION, rng)


def one_star(tile, xy, flux):
    some = some_sources(tile, 1)
    star = replace(some, kind=np.array([CONTROL_STAR]), xy=np.array([xy]))
    return replace(star, flux=np.array([flux], dtype=float))


def test_a_star_is_the_psf_of_its_band(tile):
    seen = inject(tile, one_star(tile, (100.0, 90.0), (1000.0, 3000.0)), np.random.default_rng(0))
    for band, (sigma, flux) in enumerate(((2.0, 1000), (2.5, 3000))):
        stamp = seen.image[band, 70:111, 80:121]
        np.testing.assert_allclose(stamp, flux * gaussian(sigma), atol=2e-3 * stamp.max())
    assert not tile.image.any()


def test_a_star_between_pixels_has_its_light_there(tile):
    seen = inject(tile, one_star(tile, (100.3, 90.6), (1000.0, 3000.0)), np.random.default_rng(0))
    y, x = np.indices((SIZE, SIZE))
    for image in seen.image:
        assert (image * x).sum() / image.sum() == pytest.approx(100.3, abs=0.01)
        assert (image * y).sum() / image.sum() == pytest.approx(90.6, abs=0.01)


def test_the_psf_is_that_of_the_place(tile):
    stamps = (gaussian(2.0), gaussian(3.5))
    grid = by_cell(stamps, [[0, 1]], [0, SIZE], [0, 100, SIZE])
    there = replace(tile, psf=TilePsf((grid, grid)))
    for x, sigma in ((50.0, 2.0), (150.0, 3.5)):
        seen = inject(there, one_star(tile, (x, 100.0), (100.0, 100.0)), np.random.default_rng(0))
        assert seen.image[0].max() == pytest.approx(100 / (2 * np.pi * sigma**2), rel=0.01)


def test_the_sources_light_is_their_flux(tile):
    sources = some_sources(tile)
    seen = inject(tile, sources, np.random.default_rng(0))
    assert len(sources) == 9
    np.testing.assert_allclose(seen.image.sum((1, 2)), sources.flux.sum(0), rtol=0.02)


def test_unusable_pixels_stay_as_they_are(tile):
    tile.unusable[:, :, 95:105] = True
    seen = inject(tile, one_star(tile, (100.0, 90.0), (1000.0, 3000.0)), np.random.default_rng(0))
    assert not seen.image[:, :, 95:105].any()
    assert seen.image[0, 90, 94] > 0


@pytest.mark.parametrize("gain", [0.5, 4.0])
def test_photon_noise_is_that_of_the_gain_in_the_variance(tile, gain):
    rng = np.random.default_rng(1)
    light = np.zeros((SIZE, SIZE))
    light[:40] = 500.0
    photons = rng.poisson((light + SKY * gain) * gain)
    tile.image[0] = photons / gain - SKY * gain
    tile.variance[0] = photons / gain**2
    assert variance_per_light(tile, 0) == pytest.approx(1 / gain, rel=0.05)
    flat = replace(tile, variance=np.full_like(tile.variance, SKY))
    assert variance_per_light(flat, 0) == 0
    star = one_star(tile, (100.0, 120.0), (20000.0, 20000.0))
    added = [inject(tile, star, np.random.default_rng(i)) for i in range(40)]
    core = np.array([seen.image[0, 120, 100] - tile.image[0, 120, 100] for seen in added])
    more = added[0].variance[0, 120, 100] - tile.variance[0, 120, 100]
    # A variance of 40 draws is known to 22 %.
    assert core.var() == pytest.approx(more, rel=0.6)
    assert more == pytest.approx(20000 / (2 * np.pi * 4) / gain, rel=0.06)


def places(region, ground, n, clear=0.0, seed=0):
    return choose_places(region, [clear] * n, ground, INJECTION, np.random.default_rng(seed))


def test_sources_of_a_region_are_apart(tile):
    region = choose_region(Box(0, 0, SIZE, SIZE), 9, INJECTION.room, np.random.default_rng(0))
    assert region.shape == (192, 192)
    chosen = np.array(places(region, ground(tile), 9))
    apart = np.linalg.norm(chosen[:, None] - chosen, axis=2) + 1e9 * np.eye(9)
    assert apart.min() >= INJECTION.spacing
    assert all(region.contains(y, x) for x, y in chosen)


def test_a_small_cell_has_fewer(tile):
    region = choose_region(Box(0, 0, 50, 70), 30, INJECTION.room, np.random.default_rng(0))
    assert region.shape == (50, 70)
    chosen = [xy for xy in places(region, ground(tile), 30) if xy is not None]
    assert 1 <= len(chosen) <= 8


def test_no_source_stands_on_unusable_pixels(tile):
    tile.unusable[0, :, :100] = True
    region = Box(60, 60, 140, 140)
    chosen = [places(region, ground(tile), 1, seed=i)[0] for i in range(30)]
    assert min(x for x, _ in chosen) > 101.4
    tile.unusable[1] = True
    assert places(region, ground(tile), 1) == [None]


def test_controls_stay_clear_of_detected_sources(tile):
    near = ground(tile, [[100.0, 100.0]], density=1e6)
    chosen = [places(Box(40, 40, 160, 160), near, 1, clear=4.0, seed=i)[0] for i in range(100)]
    assert min(np.hypot(*(xy - 100)) for xy in chosen) >= 4.0 / SCALE


def test_others_go_by_detected_sources_as_galaxies_do(tile):
    host = np.array([100.0, 100.0])
    chosen = [
        [
            places(Box(0, 0, SIZE, SIZE), ground(tile, [host], density), 1, seed=i)[0]
            for i in range(400)
        ]
        for density in (1e6, 0.0)
    ]
    radius = 5.0 / SCALE
    by_host, alone = (np.mean([np.hypot(*(xy - host)) < radius for xy in some]) for some in chosen)
    by_chance = np.pi * radius**2 / SIZE**2
    assert alone == pytest.approx(by_chance, abs=0.04)
    # Half of them by it, of which so many are within a third of the range: r^1.2 from 0.2" to 15".
    within = (5**1.2 - 0.2**1.2) / (15**1.2 - 0.2**1.2)
    assert by_host == pytest.approx(0.5 * within + 0.5 * by_chance, abs=0.06)


def test_a_cell_without_psf_gets_no_source(tile):
    grid = by_cell((gaussian(2.0),), [[0, -1]], [0, SIZE], [0, 100, SIZE])
    there = replace(tile, psf=TilePsf((grid, grid)))
    drawn = [some_sources(there, 9, seed) for seed in range(5)]
    assert max(sources.xy[:, 0].max() for sources in drawn) < 100


def test_magnitudes_have_the_slope_and_weights_undo_it():
    relative = draw_relative(20000, INJECTION, np.random.default_rng(0))
    counts, _ = np.histogram(relative, bins=np.arange(-6, 1.5))
    slope = np.polyfit(np.arange(7), np.log10(counts), 1)[0]
    assert slope == pytest.approx(INJECTION.slope, abs=0.01)


def test_kinds_come_in_their_fractions():
    kinds = draw_kinds(20000, INJECTION, np.random.default_rng(0))
    assert np.isin(kinds, CONTROLS).mean() == pytest.approx(INJECTION.control_fraction, abs=0.01)


def test_control_disks_are_what_they_are_called(tile):
    sources = some_sources(tile, 9, seed=3)
    disks = sources.kind == CONTROL_DISK
    assert disks.any()
    assert (sources.r50[disks] == INJECTION.control_r50).all()
    assert not sources.galaxies.g[disks].any()


def test_a_cell_has_sources_of_its_own_the_same_each_time(tile):
    again = [cell_rng(5, "t", cell).random() for cell in ("a", "a", "b")]
    assert again[0] == again[1] != again[2]
    assert cell_rng(6, "t", "a").random() != again[0]


def test_the_depth_is_that_of_the_matched_filter(tile):
    # Of a Gaussian: sum of squares 1 / (4 pi sigma^2).
    sigma_flux = np.sqrt(SKY * 4 * np.pi * 2.5**2)
    assert point_depth(tile, 1) == pytest.approx(31.4 - 2.5 * np.log10(5 * sigma_flux), abs=0.001)
    tile.unusable[1] = True
    assert np.isnan(point_depth(tile, 1))


def test_sources_are_taken_with_their_profiles(tile):
    sources = some_sources(tile)
    part = sources.take(np.array([3, 1]))
    assert isinstance(part, InjectedSources)
    assert part.profile(0, 1).flux == pytest.approx(sources.flux[3, 1])
