"""Probabilities of unrecognized blends in the catalog, on a small sky of GalSim galaxies."""

import json
from dataclasses import replace

import galsim
import numpy as np
import pytest

from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.logistic import Logistic, probability, terms
from raydeblend.deblend.unrecognized.model import (
    SuspectModel,
    read_model,
    shipped_model,
    write_model,
)
from raydeblend.deblend.unrecognized.statistics import FEATURES
from raydeblend.errors import ConfigError
from raydeblend.fit.result import not_attempted
from raydeblend.flags import Flag
from raydeblend.pipeline.deblended import DeblendedParent
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.rows import MeasuredSources, parent_rows
from raydeblend.pipeline.suspects import Suspects, with_verdict
from raydeblend.psf import constant
from raydeblend.survey import get_survey, nominal_psf
from raydeblend.tile import Blend, Box, Cell, Deblended, TileHeader

BANDS = ("g", "r", "i")
SURVEY = get_survey("HSC")
SCALE, SIDE = SURVEY.pixel_scale, 48
HEADER = TileHeader("t", BANDS, (None,) * 3, (300, 300), "", SCALE)
TASK = CellTask(Cell("c", HEADER, HEADER.box, HEADER.box))
PSF = tuple(nominal_psf(SURVEY, band) for band in BANDS)


def gain_model(doubt=2.0):
    """A calibration that looks at nothing but the residual: half at a gain of √20."""
    weights = np.zeros(len(terms(np.zeros((1, len(FEATURES))))[0]))
    weights[FEATURES.index("log_gain")] = 1.0
    mean, scale = np.zeros(len(FEATURES)), np.ones(len(FEATURES))
    mean[FEATURES.index("log_gain")] = np.log1p(np.sqrt(20))
    scale[FEATURES.index("log_gain")] = 0.1
    cheap = Logistic(mean, scale, weights, 0.0)
    return SuspectModel("joint", cheap, None, doubt, (1.0, 3.0), {})


def blend(places, seed=0, variance=1.0):
    """A footprint of galaxies ``(x, y, flux)``, x and y in pixels off its middle."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, np.sqrt(variance), (3, SIDE, SIDE))
    for x, y, flux in places:
        light = galsim.Exponential(half_light_radius=0.25, flux=flux).shift(x * SCALE, y * SCALE)
        for b, psf in enumerate(PSF):
            kernel = galsim.InterpolatedImage(galsim.Image(psf, scale=SCALE), flux=1)
            drawn = galsim.Convolve(light, kernel).drawImage(
                nx=SIDE + 1, ny=SIDE + 1, scale=SCALE, method="no_pixel"
            )
            image[b] += drawn.array[:SIDE, :SIDE]
    footprint = np.zeros((SIDE, SIDE), bool)
    footprint[8:-8, 8:-8] = True
    return Blend(
        parent_id=1 + seed,
        box=Box(50, 60, 50 + SIDE, 60 + SIDE),
        image=image.astype(np.float32),
        variance=np.full(image.shape, variance, np.float32),
        unusable=np.zeros(image.shape, bool),
        footprint=footprint,
        xy=np.array([[24, 24]], np.float32),
    )


def single(footprint):
    """What a deblender that sees one galaxy makes of a footprint: the best fit of one."""
    deblender = JointDeblender()
    result = deblender(
        footprint.image[None],
        variance=footprint.variance[None],
        psf=np.stack(PSF),
        bands=BANDS,
        pixel_scale=SCALE,
        xy=[[[24, 24]]],
    )
    return DeblendedParent(result.models[0, :1], result.xy[0, :1], "isolated", "joint")


def detected(*blends):
    return Detected(TASK, blends, constant(PSF))


def test_a_pair_fitted_as_one_is_suspected_and_taken_apart():
    one, two = blend([(0, 0, 900)], 1), blend([(-2, 0, 900), (3, 1, 600)], 2)
    stage = Suspects(gain_model(), JointDeblender(), threshold=0.5)
    alone, apart = stage(detected(one, two), [single(one), single(two)])
    assert len(alone.models) == 1
    assert alone.p_unrecognized.shape == (1,)
    assert alone.p_unrecognized[0] < 0.5
    assert alone.source_flags.tolist() == [0]
    assert not alone.flags & Flag.BLEND_RECOVERED
    assert len(apart.models) == 2
    assert apart.flags & Flag.BLEND_RECOVERED
    found = apart.xy[np.argsort(apart.xy[:, 0])] - 24
    np.testing.assert_allclose(found, [[-2, 0], [3, 1]], atol=0.5)
    assert apart.p_unrecognized.shape == (2,)


def test_above_one_nothing_is_taken_apart_but_all_is_judged():
    two = blend([(-2, 0, 900), (3, 1, 600)], 2)
    stage = Suspects(gain_model(), JointDeblender(), threshold=2.0)
    (part,) = stage(detected(two), [single(two)])
    assert len(part.models) == 1
    assert part.p_unrecognized[0] > 0.5
    assert part.source_flags.tolist() == [0]


def test_what_the_calibration_does_not_cover_has_no_probability():
    one = blend([(0, 0, 900)])
    fitted = single(one)
    stage = Suspects(gain_model(), JointDeblender(), threshold=0.5)
    other = replace(fitted, deblender="sep")
    failed = replace(fitted, flags=int(Flag.DEBLEND_FAILED))
    for part in stage(detected(one, one), [other, failed]):
        assert part.p_unrecognized is None
    blurred = Suspects(replace(gain_model(), seeing=(5.0, 6.0)), JointDeblender(), 0.5)
    assert blurred(detected(one), [fitted])[0].p_unrecognized is None


def test_the_flag_and_the_probability_reach_the_rows():
    one = blend([(0, 0, 900)])
    part = single(one)
    nothing = not_attempted(1, 3, "exp", "mixture")
    known = replace(nothing, flags=np.zeros(1, np.int32))
    scale = TASK.cell.tile.pixel_scale
    measured = MeasuredSources.join([known], one, part, scale)
    psf = detected(one).psf
    bright = measured, measured.points(one, part, psf), np.zeros(1), psf
    for p, flag in ((0.7, Flag.BLEND_SUSPECTED), (0.3, Flag(0))):
        rows = parent_rows(TASK, one, with_verdict(part, np.array([p]), 0.5), *bright)
        assert rows["p_unrecognized_blend"] == pytest.approx([p])
        assert rows["flags"].tolist() == [flag]
    rows = parent_rows(TASK, one, part, *bright)
    assert np.isnan(rows["p_unrecognized_blend"]).all()


def test_a_deblender_without_calibration_keeps_its_own_probability():
    class Own:
        name = "own"

        def __call__(self, images, **_):
            n = len(images)
            return Deblended(
                images[:, None],
                np.ones(n, np.int64),
                np.full((n, 1, 2), 24, np.float32),
                np.full(n, "high"),
                {"p_blend": np.full(n, 0.25)},
            )

    cell = DeblendCell(CatalogConfig(bands=BANDS, deblender="sep"), Own())
    (part,) = cell(detected(blend([(0, 0, 900)]))).parts
    assert part.p_unrecognized is None
    assert part.p_blend == 0.25


def test_the_networks_are_asked_where_the_residual_shows_something_and_two_are_likely():
    seen = np.zeros((3, len(FEATURES)))
    seen[:, FEATURES.index("log_gain")] = np.log1p([3.3, 3.5, 3.5])
    assert gain_model(0.5).in_doubt(seen, np.log([3.0, 3.0, 0.5])).tolist() == [1]


def test_the_model_on_disk_is_the_model(tmp_path):
    model, path = gain_model(0.1), str(tmp_path / "suspect.json")
    write_model(path, model)
    x = np.random.default_rng(0).normal(1, 1, (5, len(FEATURES)))
    np.testing.assert_allclose(read_model(path).cheap.logit(x), model.cheap.logit(x), atol=1e-5)
    content = json.loads((tmp_path / "suspect.json").read_text())
    content["cheap"]["weights"].pop()
    (tmp_path / "suspect.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="not a calibration"):
        read_model(path)
    with pytest.raises(ConfigError, match="no file"):
        read_model(str(tmp_path / "other.json"))


def test_the_shipped_calibration_is_for_the_default_deblender():
    model = shipped_model("joint")
    assert model is not None
    assert model.cheap.mean.shape == (len(FEATURES),)
    assert model.card["scores"]
    assert shipped_model("sep") is None
    assert all(model.holds(width) for width in (1.5, 2.0))


def test_probability_of_odds():
    np.testing.assert_allclose(probability(np.log([1.0, 3.0])), [0.5, 0.75])


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_threshold_must_be_positive(value):
    with pytest.raises(ConfigError, match="suspected blends"):
        CatalogConfig(bands=BANDS, suspect_threshold=value)
