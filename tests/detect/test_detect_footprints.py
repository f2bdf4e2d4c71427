from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from sky_tiles import PSF_SIGMA, add_stars, cut, make_tile, noise, point_source_error

from raydeblend.detect.background import REACH, subtract_background
from raydeblend.detect.footprints import DetectConfig, detection_image, find_blends
from raydeblend.detect.ids import source_id
from raydeblend.errors import ConfigError
from raydeblend.fits import find_tiles, read_tile
from raydeblend.flags import Flag
from raydeblend.survey import get_survey
from raydeblend.tile import Box

HSC = Path(__file__).parents[3] / "shared" / "data" / "hsc" / "calexp_fields"
CONFIG = DetectConfig()
# (60 / 0.168)² pixels.
ARCMIN2 = 127_551


def positions(blends):
    """Peaks (x, y) in tile pixels."""
    parts = [b.xy + np.array([b.box.x0, b.box.y0]) for b in blends]
    return np.concatenate(parts) if parts else np.zeros((0, 2))


def field(snr, shape=(300, 300), n=5, seed=0):
    """Point sources of the same flux on a jittered grid, and where they are."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * shape[0] / n] * 2), -1).reshape(-1, 2)
    xy = grid + rng.uniform(-5, 5, grid.shape)
    flux = np.full(len(xy), snr * point_source_error())
    return make_tile(add_stars(noise(shape, seed), xy, flux)), xy


def test_significance_is_the_signal_to_noise_of_a_point_source():
    empty = detection_image(make_tile(noise((400, 400))))
    assert empty.std() == pytest.approx(1, abs=0.03)
    xy, flux = np.array([[50.0, 50.0]]), np.array([20 * point_source_error()])
    star = detection_image(make_tile(add_stars(np.zeros((3, 101, 101)), xy, flux)))
    assert star.max() == pytest.approx(20, rel=0.01)


def test_empty_noise_has_next_to_no_sources():
    found = sum(
        len(positions(find_blends(make_tile(noise((1000, 1000), s)), CONFIG))) for s in (0, 1)
    )
    assert found < 0.5 * 2e6 / ARCMIN2


def test_sources_are_found_where_they_are():
    tile, xy = field(snr=40)
    found = positions(find_blends(tile, CONFIG))
    distance, _ = cKDTree(found).query(xy)
    assert len(found) == len(xy)
    # Each coordinate scatters by √2 σ_psf / SNR = 0.064 px.
    assert np.sqrt(np.mean(distance**2)) == pytest.approx(2 * PSF_SIGMA / 40, rel=0.35)


@pytest.mark.parametrize(("snr", "least", "most"), [(8, 0.97, 1), (5, 0.3, 0.8), (2, 0, 0.05)])
def test_completeness_follows_the_threshold(snr, least, most):
    counts = []
    for seed in range(4):
        tile, xy = field(snr, n=6, seed=seed)
        found = positions(find_blends(tile, CONFIG))
        if len(found):
            counts.append(np.mean(cKDTree(found).query(xy)[0] < 3))
        else:
            counts.append(0)
    assert least <= np.mean(counts) <= most


def test_two_stars_are_one_blend_brightest_first():
    xy = np.array([[60.2, 60.0], [68.4, 61.0]])
    tile = make_tile(add_stars(noise((120, 120)), xy, np.array([2000.0, 4000.0])))
    (blend,) = find_blends(tile, CONFIG)
    np.testing.assert_allclose(positions([blend]), xy[::-1], atol=0.3)
    assert blend.parent_id == source_id("t", 61, 68)
    assert blend.image.shape == blend.unusable.shape == (3, *blend.footprint.shape)
    size = blend.box.shape[0]
    assert blend.box.shape == (size, size)
    assert size in (48, 64)
    np.testing.assert_array_equal(blend.image, tile.image[:, *blend.box.slices])


def test_other_footprints_are_unusable_in_a_stamp():
    xy = np.array([[50.0, 60.0], [72.0, 60.0]])
    tile = make_tile(add_stars(noise((120, 120)), xy, np.array([2000.0, 2000.0])))
    first, second = find_blends(tile, CONFIG)
    for own, other in ((first, second), (second, first)):
        x, y = (positions([other])[0] - [own.box.x0, own.box.y0]).round().astype(int)
        assert own.unusable[:, y, x].all()
        assert not own.footprint[y, x]
        assert not own.unusable[:, own.footprint].any()


def test_stamp_beyond_the_tile_is_padded_with_unusable_pixels():
    tile = make_tile(add_stars(noise((90, 90)), np.array([[4.0, 45.0]]), np.array([3000.0])))
    (blend,) = find_blends(tile, CONFIG)
    off = np.s_[:, :, : -blend.box.x0]
    assert blend.box.x0 < 0
    assert blend.unusable[off].all()
    assert not blend.image[off].any()
    assert np.all(blend.variance > 0)


def test_edge_flag_in_both_states():
    xy = np.array([[1.0, 45.0], [50.0, 45.0]])
    tile = make_tile(add_stars(noise((90, 90)), xy, np.array([3000.0, 3000.0])))
    flags = {round(float(positions([b])[0, 0])) > 20: b.flags for b in find_blends(tile, CONFIG)}
    assert flags == {False: Flag.EDGE, True: 0}


def test_masked_and_saturated_flags_in_both_states():
    xy = np.array([[30.0, 45.0], [60.0, 45.0], [90.0, 45.0]])
    tile = make_tile(add_stars(noise((90, 120)), xy, np.full(3, 5000.0)))
    unusable, saturated = tile.unusable.copy(), tile.saturated.copy()
    unusable[1, 46, 25:33] = True
    unusable[:, 44:47, 89:92] = True
    saturated[44:47, 89:92] = True
    tile = replace(tile, unusable=unusable, saturated=saturated)
    tile = replace(tile, image=np.where(unusable, 0, tile.image))
    blends = sorted(find_blends(tile, CONFIG), key=lambda b: positions([b])[0, 0])
    assert [b.flags for b in blends] == [Flag.MASKED, 0, Flag.MASKED | Flag.SATURATED]


def test_bad_column_does_not_split_a_source():
    tile = make_tile(add_stars(noise((90, 90)), np.array([[45.0, 45.0]]), np.array([5000.0])))
    unusable = tile.unusable.copy()
    unusable[:, :, 45] = True
    tile = replace(tile, unusable=unusable, image=np.where(unusable, 0, tile.image))
    (blend,) = find_blends(tile, CONFIG)
    assert len(blend.xy) == 1
    assert blend.flags == Flag.MASKED


def test_missing_band_leaves_the_others_and_is_not_masked():
    tile, xy = field(snr=30)
    unusable = tile.unusable.copy()
    unusable[1] = True
    tile = replace(
        tile,
        unusable=unusable,
        image=np.where(unusable, 0, tile.image),
        flags=int(Flag.BAND_MISSING),
    )
    blends = find_blends(tile, CONFIG)
    assert len(positions(blends)) == len(xy)
    assert {b.flags for b in blends} == {int(Flag.BAND_MISSING)}


def test_flags_of_the_tile_are_handed_on():
    tile, _ = field(snr=30)
    blends = find_blends(replace(tile, flags=int(Flag.PSF_NOMINAL)), CONFIG)
    assert all(b.flags & Flag.PSF_NOMINAL for b in blends)


def test_giant_footprint_keeps_its_size_and_is_left_to_the_classical_deblender():
    y, x = np.indices((420, 420)) - 210
    tile = make_tile(noise((420, 420)) + 500 * np.exp(-0.5 * (x**2 + y**2) / 45**2))
    giant = max(find_blends(tile, CONFIG), key=lambda b: b.footprint.sum())
    assert giant.flags & Flag.DEBLEND_FALLBACK
    assert giant.box.shape[0] > 256
    assert giant.box.shape[0] % 2 == 0
    small, _ = field(snr=30)
    assert not any(b.flags & Flag.DEBLEND_FALLBACK for b in find_blends(small, CONFIG))


def test_crowded_region_does_not_lose_the_rest():
    # A whole field above the threshold, as when no sky was subtracted, and one clean source.
    rng = np.random.default_rng(0)
    image = add_stars(noise((400, 700)), np.array([[650.0, 200.0]]), np.array([2000.0]))
    image[:, :, :550] += 200 + 300 * (rng.random((400, 550)) > 0.99)
    found = positions(find_blends(make_tile(image), CONFIG))
    assert len(found) > 300
    assert np.any(np.hypot(*(found - [650, 200]).T) < 0.5)


def test_two_cuts_of_a_tile_give_the_same_blends():
    rng = np.random.default_rng(2)
    xy, flux = rng.uniform(0, 820, (240, 2)), 10 ** rng.uniform(2.2, 4, 240)
    tile = make_tile(add_stars(noise((820, 820)), xy, flux))
    boxes = (Box(0, 0, 820, 730), Box(0, 90, 820, 820))
    parts = [find_blends(subtract_background(cut(tile, box)), CONFIG) for box in boxes]
    # What lies wholly in the middle is the same to the last bit, but for the pixels of the stamp
    # that one of the cuts did not see so well.
    low, high = 90 + REACH, 730 - REACH
    common = [
        {b.parent_id: b for b in part if b.box.x0 >= low and b.box.x1 <= high} for part in parts
    ]
    assert len(common[0]) > 5
    assert common[0].keys() == common[1].keys()
    for parent in common[0]:
        one, two = common[0][parent], common[1][parent]
        assert one.box == two.box
        np.testing.assert_array_equal(one.xy, two.xy)
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.unusable, two.unusable)


def test_all_masked_tile_has_no_blends():
    tile = make_tile(noise((64, 64)))
    tile = replace(tile, unusable=np.ones_like(tile.unusable), image=np.zeros_like(tile.image))
    assert find_blends(tile, CONFIG) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0},
        {"threshold": np.nan},
        {"isophote": -1},
        {"min_area": 0},
        {"contrast": 1.5},
        {"prominence": -1},
        {"margin": -1},
    ],
)
def test_configuration_is_checked(wrong):
    with pytest.raises(ConfigError):
        DetectConfig(**wrong)


@pytest.mark.skipif(not HSC.is_dir(), reason="needs ../shared/data/hsc")
def test_real_hsc_field():
    (header,), failures = find_tiles(
        str(HSC), ("g", "r", "i"), "{tile}_300x300_{band}.fits", "{tile}_{band}_psf.fits"
    )
    tile = subtract_background(read_tile(header, header.box, get_survey("HSC")))
    blends = find_blends(tile, CONFIG)
    found = positions(blends)
    assert not failures
    # COSMOS UltraDeep: more than 100 per arcmin²; the bright galaxy in the middle is one source.
    assert 80 < len(found) < 160
    assert np.sum(np.hypot(*(found - [149, 153]).T) < 15) == 1
    brightest = max(blends, key=lambda b: b.footprint.sum())
    assert len(brightest.xy) > 5


def star_with_photon_noise(mag, njy_per_electron, seed):
    """A star with wings whose own photons are in the variance plane; its place (x, y)."""
    rng = np.random.default_rng(seed)
    x0, y0 = 60 + rng.uniform(-0.5, 0.5, 2)
    y, x = np.indices((121, 121))
    # A Moffat profile of FWHM 4.2 pixels, like the Gaussian PSF's.
    profile = (1 + ((x - x0) ** 2 + (y - y0) ** 2) / 4.67**2) ** -3.5
    light = (
        10 ** ((31.4 - mag) / 2.5)
        * profile
        / profile.sum()
        * np.array([0.4, 0.7, 1])[:, None, None]
    )
    variance = np.array([3.0, 4.0, 5.0])[:, None, None] ** 2 + njy_per_electron * light
    tile = make_tile(light + rng.normal(size=light.shape) * np.sqrt(variance))
    return replace(tile, variance=variance.astype(np.float32)), np.array([x0, y0])


@pytest.mark.parametrize("njy_per_electron", [0.03, 0.3, 3.0])
@pytest.mark.parametrize("mag", [15.5, 16, 16.5, 17, 17.4, 18, 19, 20.5])
def test_a_bright_star_has_one_row_at_its_place(mag, njy_per_electron):
    tile, place = star_with_photon_noise(mag, njy_per_electron, seed=int(10 * mag))
    found = positions(find_blends(tile, CONFIG))
    near = np.hypot(*(found - place).T) < 12
    assert near.sum() == 1
    np.testing.assert_allclose(found[near][0], place, atol=0.1)


@pytest.mark.parametrize("depth", [0.02, 0.2, 5, 50])
def test_a_step_in_depth_hides_no_source(depth):
    xy = np.array([[x, 20.0 + 4 * i] for i, x in enumerate(range(10, 290, 20))])
    tile = make_tile(add_stars(noise((100, 300)), xy, np.full(len(xy), 60 * point_source_error())))
    variance, image = tile.variance.copy(), tile.image.copy()
    # Half of the field is less or more exposed, in all bands.
    variance[..., 150:] *= depth
    empty = noise((100, 300)).astype(np.float32)[..., 150:]
    image[..., 150:] += (np.sqrt(depth) - 1) * empty
    found = positions(find_blends(replace(tile, image=image, variance=variance), CONFIG))
    distance = cKDTree(found).query(xy)[0]
    assert distance.max() < 1.0
    assert len(found) <= len(xy) + 1


def test_nothing_is_detected_where_no_band_is_usable():
    xy = np.array([[60.0, 60.0]])
    tile = make_tile(add_stars(noise((120, 120)), xy, np.array([3000.0])))
    tile.unusable[:, :, 64:] = True
    significance = detection_image(tile)
    assert (significance[:, 70:] == 0).all()
    # One band is enough.
    tile.unusable[1] = False
    assert (detection_image(tile)[:, 70:] != 0).all()


def test_where_no_band_has_data_nothing_is_detected_though_a_flank_shows_beside_it():
    image = add_stars(noise((90, 90)), np.array([[42.0, 45.0]]), np.array([5000.0]))
    tile = make_tile(image)
    unusable = tile.unusable.copy()
    unusable[:, :, :45] = True
    tile = replace(tile, unusable=unusable, image=np.where(unusable, 0, tile.image))
    assert not detection_image(tile)[:, :45].any()
    (blend,) = find_blends(tile, CONFIG)
    assert positions([blend])[:, 0].min() >= 44.5
    # Of a saturated star it is the core that is not seen.
    star = replace(tile, saturated=unusable.all(0))
    assert detection_image(star)[:, 40:45].any()
