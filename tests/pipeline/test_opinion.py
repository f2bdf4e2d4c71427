"""A second opinion: which footprints it sees, and by how much two methods differ."""

from dataclasses import replace

import numpy as np
import pytest
from test_deblending import CELL, CONFIG, PSF, make_blend, usual_psf

from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.flags import Flag
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.opinion import SecondOpinion, difference, is_chosen, second_opinion
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.rows import _disagreement
from raydeblend.psf import constant
from raydeblend.tile import Deblended

XY = np.array([[8.0, 8.0], [22.0, 22.0]], dtype=np.float32)


def part(xy, light):
    """Sources of one pixel each, as bright as `light` ``(k, bands)``."""
    models = np.zeros((len(xy), 2, 32, 32), np.float32)
    for model, (x, y), flux in zip(models, np.array(xy, dtype=int), light, strict=True):
        model[:, y, x] = flux
    return DeblendedParent(models, np.array(xy, dtype=np.float32), "high", "other")


def test_a_fraction_is_chosen_by_the_identifier_alone():
    identifiers = np.arange(20_000, dtype=np.int64) * 131_072
    chosen = is_chosen(identifiers, 0.2)
    # Binomial: 0.2 of 20,000 to 0.003.
    assert chosen.mean() == pytest.approx(0.2, abs=0.012)
    assert (is_chosen(identifiers[::-1], 0.2)[::-1] == chosen).all()
    assert (is_chosen(identifiers, 0.5) >= chosen).all()
    assert is_chosen(identifiers, 1.0).all()


def test_the_difference_is_that_of_the_fluxes_inside_the_footprint():
    blend = make_blend(XY)
    own = part(XY, [(10.0, 20.0), (5.0, 6.0)])
    # The other has the first source half a pixel away, none at the second, and one outside.
    other = part([[8.4, 8.3], [1.0, 1.0]], [(12.0, 17.0), (99.0, 99.0)])
    np.testing.assert_allclose(difference(blend, own, other), [[2, -3], [-5, -6]])
    blend.unusable[1] = True
    np.testing.assert_allclose(difference(blend, own, other), [[2, np.nan], [-5, np.nan]])


def test_disagreement_is_in_errors():
    opinion = np.array([[3.0, -8.0], [np.nan, 4.0], [np.nan, np.nan]])
    error = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 1.0]])
    told = replace(part(XY, [(1, 1), (1, 1)]), opinion=opinion)
    expected = [np.sqrt((9 + 16) / 2), 2.0, np.nan]
    np.testing.assert_allclose(_disagreement(told, error), expected)
    unasked = _disagreement(replace(told, opinion=None), error)
    assert len(unasked) == 2
    assert np.isnan(unasked).all()


def test_only_blends_are_asked_about_and_all_else_stays():
    blends = tuple(
        replace(make_blend(xy), parent_id=k)
        for k, xy in enumerate([XY, XY[:1], [[5.0, 5.0], [9.0, 20.0], [25.0, 11.0]]])
    )
    detected = Detected(CellTask(CELL), blends, constant(PSF))
    # Of light that is everywhere alike, so that sep's pixels differ from these points'.
    first = DeblendedCell(
        detected, tuple(part(blend.xy, np.full((len(blend.xy), 2), 50.0)) for blend in blends)
    )
    opinion = SecondOpinion(DeblendCell(CONFIG), 1.0)
    told = opinion(first)
    assert [p.opinion is not None for p in told.parts] == [True, False, True]
    assert all(np.isfinite(p.opinion).all() for p in told.parts if p.opinion is not None)
    for before, after in zip(first.parts, told.parts, strict=True):
        assert after.models is before.models
    assert [p.opinion for p in replace(opinion, fraction=1e-9)(first).parts] == [None] * 3


@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_a_network_that_has_not_learnt_from_such_stamps_flags_its_opinion(factor):
    blend = make_blend(XY)
    blend = replace(blend, image=blend.image * np.float32(factor))
    detected = Detected(CellTask(CELL), (blend,), usual_psf())
    first = DeblendedCell(detected, (part(XY, [(50.0, 50.0), (50.0, 50.0)]),))

    class Network:
        name = "rdn"

        def __call__(self, images, **_):
            models = np.repeat(images[:, None] / 2, 2, axis=1)
            return Deblended(models, np.array([2]), XY[None], np.array(["high"]))

    (told,) = SecondOpinion(DeblendCell(CONFIG, Network()), 1.0)(first).parts
    assert told.opinion is not None
    assert bool(told.flags & Flag.UNLIKE_TRAINING) == (factor > 1)


def test_a_configuration_names_another_deblender():
    joint = CatalogConfig(bands=("g", "i"), second_opinion="sep", second_opinion_fraction=0.25)
    found = second_opinion(joint)
    assert found is not None
    assert (found.deblend.deblender.name, found.fraction) == ("sep", 0.25)
    assert second_opinion(CONFIG) is None
    assert joint.hash != replace(joint, second_opinion="rdn").hash
    with pytest.raises(ConfigError, match="unknown second opinion 'sxt'"):
        replace(joint, second_opinion="sxt")
    with pytest.raises(ConfigError, match="another deblender than 'joint'"):
        replace(joint, second_opinion="joint")
    with pytest.raises(ConfigError, match=r"above 0 and at most 1, not 1\.5"):
        replace(joint, second_opinion_fraction=1.5)
