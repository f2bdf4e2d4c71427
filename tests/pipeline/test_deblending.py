from dataclasses import replace

import numpy as np
import pytest

from raydeblend.config import DEBLENDER_NETWORKS, DEBLENDERS, CatalogConfig
from raydeblend.deblend.masks import merge_bands
from raydeblend.flags import Flag
from raydeblend.measure.blendedness import blendedness
from raydeblend.pipeline.answers import VALUES
from raydeblend.pipeline.batches import deblender_image, stack_psf
from raydeblend.pipeline.config import FOOTPRINTS
from raydeblend.pipeline.deblended import DeblendedCell, unmeasured, without_models
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.plan import CellTask
from raydeblend.psf import constant
from raydeblend.tile import Blend, Box, Cell, Deblended, TileHeader

HEADER = TileHeader("t", ("g", "i"), (None, None), (300, 300), "", 0.168)
CELL = Cell("c", HEADER, HEADER.box, HEADER.box)
PSF = (np.ones((3, 3), np.float32) / 9, np.ones((5, 5), np.float32) / 25)
CONFIG = CatalogConfig(bands=("g", "i"), deblender="sep")


def usual_psf():
    """HSC's seeing, about."""
    y, x = np.mgrid[-12:13, -12:13]
    stamp = np.exp(-(x**2 + y**2) / (2 * 1.9**2)).astype(np.float32)
    return constant((stamp / stamp.sum(), stamp / stamp.sum()))


def make_blend(xy, size=32, flags=0):
    rng = np.random.default_rng(size)
    footprint = np.zeros((size, size), dtype=bool)
    footprint[4:-4, 4:-4] = True
    return Blend(
        parent_id=1,
        box=Box(10, 20, 10 + size, 20 + size),
        image=rng.normal(5, 1, (2, size, size)).astype(np.float32),
        variance=np.ones((2, size, size), np.float32),
        unusable=np.zeros((2, size, size), dtype=bool),
        footprint=footprint,
        xy=np.array(xy, dtype=np.float32),
        flags=flags,
    )


class Halves:
    """A deblender that gives every position it was told an equal share of the image."""

    name = "halves"

    def __init__(self, xy, quality="high", extra=None):
        self.xy = np.array(xy, dtype=np.float32).reshape(-1, 2)
        self.quality, self.extra = quality, extra or {}
        self.shapes = []

    def __call__(self, images, variance=None, mask=None, psf=None, bands=None, pixel_scale=None):
        assert variance.shape == images.shape
        assert mask.shape == (len(images), *images.shape[2:])
        assert psf.shape == (2, 5, 5)
        assert (bands, pixel_scale) == (("g", "i"), 0.168)
        self.shapes.append(images.shape)
        n, k = len(images), len(self.xy)
        return Deblended(
            models=np.repeat(images[:, None] / max(k, 1), max(k, 1), axis=1),
            n_sources=np.full(n, k),
            xy=np.tile(self.xy if k else np.full((1, 2), np.nan), (n, 1, 1)),
            quality=np.full(n, self.quality),
            extra={name: np.full(n, value) for name, value in self.extra.items()},
        )


def separate(blends, deblender, config=CONFIG):
    return DeblendCell(config, deblender)(
        Detected(CellTask(CELL), tuple(blends), constant(PSF))
    ).parts


def test_stamps_of_equal_size_are_deblended_together_and_stay_in_order():
    blends = [make_blend([[9, 9], [20, 20]], size) for size in (32, 40, 32)]
    deblender = Halves([[9, 9], [20, 20]])
    parts = separate(blends, deblender)
    assert sorted(deblender.shapes) == [(1, 2, 40, 40), (2, 2, 32, 32)]
    assert [part.models.shape[-1] for part in parts] == [32, 40, 32]
    assert {(part.quality, part.deblender, part.flags) for part in parts} == {("high", "halves", 0)}


def test_nothing_found_gives_the_undivided_parent_with_its_flag():
    blend = make_blend([[9, 9], [20, 20]])
    (part,) = separate([blend], Halves([]))
    assert part.flags == Flag.DEBLEND_FAILED
    assert part.quality == "none"
    assert part.xy.tolist() == [[9, 9]]
    np.testing.assert_array_equal(part.models[0], np.where(blend.footprint, blend.image, 0))


def test_found_sources_do_not_carry_the_flag_of_failure():
    (part,) = separate([make_blend([[9, 9]])], Halves([[9, 9]]))
    assert not part.flags & Flag.DEBLEND_FAILED


def test_sources_in_one_pixel_become_one():
    blend = make_blend([[9, 9], [20, 20]])
    (part,) = separate([blend], Halves([[20.4, 20], [9, 9.2], [19.6, 20.1]]))
    np.testing.assert_allclose(part.xy, [[20.4, 20], [9, 9.2]], rtol=1e-6)
    np.testing.assert_allclose(part.models.sum(axis=0), blend.image, rtol=1e-5)
    np.testing.assert_allclose(part.models[0], blend.image * 2 / 3, rtol=1e-5)


@pytest.mark.parametrize("place", [[1, 1], [-5, 9], [31.6, 31.6], [np.nan, 9]])
def test_a_source_outside_the_footprint_is_dropped(place):
    (part,) = separate([make_blend([[9, 9], [20, 20]])], Halves([[9, 9], place]))
    assert part.xy.tolist() == [[9, 9]]


def test_quality_tells_isolated_sources_from_unblended_ones():
    one, two = make_blend([[9, 9]]), make_blend([[9, 9], [20, 20]])
    parts = separate([one, two], Halves([[9, 9]], quality="low"))
    assert [part.quality for part in parts] == ["isolated", "low"]
    assert [part.flags for part in parts] == [0, Flag.LOW_QUALITY]


def test_single_peaks_can_be_kept_from_the_deblender():
    deblender = Halves([[9, 9], [20, 20]])
    config = CatalogConfig(bands=("g", "i"), deblender="sep", deblend_singles=False)
    one, two = separate([make_blend([[9, 9]]), make_blend([[9, 9], [20, 20]])], deblender, config)
    assert deblender.shapes == [(1, 2, 32, 32)]
    assert (len(one.xy), one.quality, one.flags) == (1, "isolated", 0)
    assert len(two.xy) == 2


def test_the_probability_of_an_unrecognized_blend_is_passed_on():
    blend = make_blend([[9, 9]])
    (part,) = separate([blend], Halves([[9, 9]], extra={"p_blend": 0.25}))
    assert part.p_blend == 0.25
    (part,) = separate([blend], Halves([[9, 9]]))
    assert np.isnan(part.p_blend)


def test_a_footprint_too_large_for_a_network_is_deblended_classically():
    y, x = np.mgrid[:300, :300]
    blobs = [np.exp(-((x - cx) ** 2 + (y - 150) ** 2) / 18) for cx in (130, 160)]
    blend = make_blend([[130, 150], [160, 150]], size=300, flags=int(Flag.DEBLEND_FALLBACK))
    image = np.repeat(100 * sum(blobs)[None], 2, axis=0).astype(np.float32)
    blend = Blend(**{**vars(blend), "image": image})
    deblender = Halves([[9, 9]])
    found = DeblendCell(CONFIG, deblender)(Detected(CellTask(CELL), (blend,), constant(PSF)))
    assert deblender.shapes == []
    pairs = list(zip(found.detected.blends, found.parts, strict=True))
    assert {(part.deblender, part.n_blended) for _, part in pairs} == {("sep", 2)}
    x = np.concatenate([part.xy[:, 0] + piece.box.x0 - blend.box.x0 for piece, part in pairs])
    np.testing.assert_allclose(sorted(x), [130, 160], atol=0.5)


@pytest.mark.parametrize("name", [name for name in DEBLENDERS if name != "joint"])
def test_every_shipped_network_leaves_what_is_too_large_to_sep(name):
    blend = make_blend([[9, 9], [20, 20]], flags=int(Flag.DEBLEND_FALLBACK))
    cell = DeblendCell(replace(CONFIG, deblender=name, suspect_threshold=2.0))
    parts = cell(Detected(CellTask(CELL), (blend,), PSF)).parts
    assert {part.deblender for part in parts} == {"sep"}


def test_a_crowded_footprint_is_deblended_apart_and_by_sep_in_pieces():
    xy = [[6 + 3 * (i % 7), 6 + 3 * (i // 7)] for i in range(40)]
    deblender = Halves([[9, 9]])
    blends = [make_blend([[9, 9], [20, 20]]), make_blend(xy), make_blend([[9, 9], [20, 20]])]
    parts = separate(blends, deblender)
    assert sorted(deblender.shapes) == [(1, 2, 32, 32), (2, 2, 32, 32)]
    assert [len(part.xy) for part in parts] == [1, 1, 1]
    assert len(xy) > FOOTPRINTS.crowded
    deblender.name = "sep"
    separate(blends, deblender)
    assert deblender.shapes[2:] == [(2, 2, 32, 32)]


def test_psf_stamps_keep_their_centers():
    psf = stack_psf(PSF)
    assert psf.shape == (2, 5, 5)
    np.testing.assert_allclose(psf.sum(axis=(1, 2)), 1, rtol=1e-6)
    np.testing.assert_array_equal(psf[0], np.pad(PSF[0], 1))


def test_a_missing_band_does_not_mask_the_others():
    blend = make_blend([[9, 9]])
    blend.unusable[0] = True
    blend.unusable[1, 3, 4] = True
    (mask,) = merge_bands(blend.unusable[None])
    assert mask.sum() == 1
    assert mask[3, 4]


def blob(y, x, peak, size=32):
    rows, columns = np.mgrid[:size, :size]
    return peak * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)


class OnlyOne:
    """A deblender that finds the source at (9, 9) and misses every other."""

    name = "only-one"

    def __call__(self, images, variance=None, mask=None, psf=None, bands=None, pixel_scale=None):
        n = len(images)
        model = np.broadcast_to(blob(9, 9, 60), images.shape[1:]).astype(np.float32)
        xy = np.tile(np.float32([9, 9]), (n, 1, 1))
        return Deblended(
            np.tile(model, (n, 1, 1, 1, 1)), np.ones(n, dtype=int), xy, np.full(n, "medium")
        )


def test_a_peak_that_the_network_missed_is_deblended_from_the_residual():
    noise = np.random.default_rng(0).normal(0, 1, (2, 32, 32))
    second = blob(21, 20, 40)
    image = (noise + blob(9, 9, 60) + second).astype(np.float32)
    blend = replace(make_blend([[9, 9], [20, 21]]), image=image)
    (part,) = separate([blend], OnlyOne())
    np.testing.assert_allclose(part.xy, [[9, 9], [20, 21]], atol=0.5)
    assert part.flags == 0
    assert part.source_flags.tolist() == [0, Flag.DEBLEND_FALLBACK]
    flux = part.models[1].sum(axis=(1, 2))
    np.testing.assert_allclose(flux, second.sum(), rtol=0.15)
    # With one peak, which it found, nothing is added.
    (alone,) = separate([replace(blend, xy=blend.xy[:1])], OnlyOne())
    assert len(alone.models) == 1
    assert not alone.flags


class WithParts(OnlyOne):
    """One that has put the second together with the first, but not all of its light."""

    def __call__(self, images, **options):
        parts = np.tile(np.float32([[20, 21], [np.nan, np.nan]]), (len(images), 1, 1))
        return replace(super().__call__(images, **options), extra={"parts_xy": parts})


def test_a_peak_that_is_part_of_a_source_was_not_missed():
    noise = np.random.default_rng(0).normal(0, 1, (2, 32, 32))
    image = (noise + blob(9, 9, 60) + blob(21, 20, 40)).astype(np.float32)
    blend = replace(make_blend([[9, 9], [20, 21]]), image=image)
    (part,) = separate([blend], WithParts())
    np.testing.assert_allclose(part.xy, [[9, 9]])
    np.testing.assert_allclose(part.parts_xy, [[20, 21]])


def test_a_missing_band_is_shown_to_the_deblender_as_missing():
    blend = make_blend([[9, 9]])
    unusable = blend.unusable.copy()
    unusable[0] = True
    image = deblender_image(replace(blend, unusable=unusable))
    assert np.isnan(image[0]).all()
    assert np.isfinite(image[1]).all()


def test_unusable_pixels_are_0_to_the_deblender_and_the_others_as_they_were():
    blend = make_blend([[9, 9]])
    unusable = blend.unusable.copy()
    unusable[0, 3, 4:7] = True
    image = deblender_image(replace(blend, image=blend.image + 5, unusable=unusable))
    np.testing.assert_array_equal(image[unusable], 0)
    np.testing.assert_array_equal(image[~unusable], (blend.image + 5)[~unusable])


class Measuring(Halves):
    """One that also measures: source k of each stamp has flux 10 k + band."""

    def __call__(self, images, **options):
        result = super().__call__(images, **options)
        n, k = len(images), len(self.xy)
        flux = np.tile(10.0 * np.arange(k)[:, None] + np.arange(2), (n, 1, 1))
        shared = dict.fromkeys(VALUES, np.ones((n, k))) | {"flux": flux, "flux_err": flux + 1}
        return replace(result, extra=shared)


def test_measurements_follow_their_sources():
    # The second shares a pixel with the first, the third is off the footprint.
    xy = [(10, 10), (10.2, 10.1), (1, 1), (20, 20)]
    (part,) = separate([make_blend([(10, 10), (20, 20)], flags=int(Flag.MASKED))], Measuring(xy))
    np.testing.assert_array_equal(part.xy, np.array([(10, 10), (20, 20)], np.float32))
    np.testing.assert_array_equal(part.measured.flux, [[0, 1], [30, 31]])
    np.testing.assert_array_equal(part.measured.flags, int(Flag.MASKED))


def test_measured_sources_travel_without_models_but_with_their_blendedness():
    blend, deblender = make_blend([[10, 10], [20, 20]]), Measuring([(10, 10), (20, 20)])
    (kept,) = separate([blend], deblender)
    detected = Detected(CellTask(CELL), (blend,), constant(PSF))
    (part,) = without_models(DeblendedCell(detected, (kept,))).parts
    assert part.measured is not None
    assert (len(part.models), part.models.nbytes) == (2, 0)
    # No view, which would keep the pixels.
    assert part.models.base is None
    # Two equal halves: half of the light at each belongs to the other.
    np.testing.assert_allclose(part.blendedness, [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(blendedness(kept.models), part.blendedness)


class Blind(Measuring):
    """One whose models hold next to no light."""

    def __call__(self, images, **options):
        result = super().__call__(images, **options)
        return replace(result, models=1e-3 * result.models)


def missing_one():
    """A footprint of whose two sources the deblender has one."""
    blend = make_blend([(10, 10), (20, 20)])
    image = np.zeros_like(blend.image)
    image[:, 18:23, 18:23] = 50
    blend = replace(blend, image=image)
    return blend, separate([blend], Blind([(10, 10)]))[0]


def test_a_source_that_had_to_be_added_goes_to_the_fitter_alone():
    blend, part = missing_one()
    assert part.flags == 0
    assert part.source_flags.tolist() == [0, Flag.DEBLEND_FALLBACK]
    assert (part.n_measured, len(part.xy)) == (1, 2)
    np.testing.assert_array_equal(part.measured.flux, [[0, 1]])
    left, rest = unmeasured(blend, part)
    np.testing.assert_allclose(rest.xy, [[20, 20]], atol=0.5)
    np.testing.assert_allclose(left.image, blend.image - part.models[0])


def test_models_of_a_footprint_with_an_added_source_stay_for_the_fitter():
    blend, part = missing_one()
    detected = Detected(CellTask(CELL), (blend,), constant(PSF))
    (kept,) = without_models(DeblendedCell(detected, (part,))).parts
    assert kept is part


def test_a_footprint_that_the_deblender_let_go_is_deblended_classically_and_flagged():
    image = np.repeat((blob(9, 9, 60) + blob(21, 20, 60))[None], 2, axis=0).astype(np.float32)
    blend = replace(make_blend([[9, 9], [20, 21]]), image=image)
    (part,) = separate([blend], Halves([], extra={"limited": True}))
    assert part.flags == Flag.DEBLEND_FALLBACK | Flag.DEBLEND_LIMITED
    assert part.deblender == "sep"
    np.testing.assert_allclose(np.sort(part.xy, axis=0), [[9, 9], [20, 21]], atol=0.5)


def test_a_search_that_was_ended_is_flagged_and_its_sources_kept():
    (part,) = separate([make_blend([[9, 9]])], Halves([[9, 9]], extra={"limited": True}))
    assert part.flags == Flag.DEBLEND_LIMITED
    (part,) = separate([make_blend([[9, 9]])], Halves([[9, 9]], extra={"limited": False}))
    assert part.flags == 0


@pytest.mark.parametrize("network", DEBLENDER_NETWORKS)
@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_a_stamp_unlike_the_networks_training_is_flagged(network, factor):
    assert is_flagged(CONFIG, network, factor) == (factor > 1)


@pytest.mark.parametrize(("weights", "flagged"), [("rdn-multiband", True), ("runs/rdn", False)])
def test_shipped_weights_have_a_training_of_their_own(weights, flagged):
    config = replace(CONFIG, deblender="rdn", weights=weights)
    assert not is_flagged(config, "rdn", 1)
    assert is_flagged(config, "rdn", 1e6) == flagged


def is_flagged(config, network, factor):
    """Whether a stamp `factor` times as bright as usual counts as unlike the training."""
    blend = make_blend([[8, 8], [22, 22]])
    blend = replace(blend, image=blend.image * np.float32(factor))

    class Network:
        name = network

        def __call__(self, images, **_):
            models = np.repeat(images[:, None] / 2, 2, axis=1)
            return Deblended(models, np.array([2]), blend.xy[None], np.array(["high"]))

    deblend = DeblendCell(config, Network())
    (part,) = deblend(Detected(CellTask(CELL), (blend,), usual_psf())).parts
    return bool(part.flags & Flag.UNLIKE_TRAINING)
