"""Footprints in pieces hold what one array of models would."""

import numpy as np

from raydeblend.deblend.sep import classical_models
from raydeblend.fit.result import not_attempted
from raydeblend.flags import Flag
from raydeblend.measure.point_sources import measure_points
from raydeblend.pipeline.answers import classical
from raydeblend.pipeline.config import FOOTPRINTS
from raydeblend.pipeline.deblended import DeblendedCell, DeblendedParent, without_models
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.pieces import in_pieces, separated_pieces
from raydeblend.psf import constant
from raydeblend.tile import Blend, Box, Separated

SIDE = FOOTPRINTS.piece_side
SIZE = 300
STEP = 12


def crowd(sigma=2.0, step=STEP, big=0.0):
    """One footprint with a source every `step` pixels and, if asked for, a large one."""
    y, x = np.mgrid[:SIZE, :SIZE]
    light = big * np.exp(-((x - 150) ** 2 + (y - 150) ** 2) / (2 * 30.0**2))
    rng = np.random.default_rng(1)
    for gy in range(20, SIZE - 20, step):
        for gx in range(20, SIZE - 20, step):
            light += rng.uniform(80, 120) * np.exp(
                -((x - gx - 0.2) ** 2 + (y - gy + 0.1) ** 2) / (2 * sigma**2)
            )
    image = (light + rng.normal(0, 1, (2, SIZE, SIZE))).astype(np.float32)
    footprint = np.zeros((SIZE, SIZE), bool)
    footprint[5:-5, 5:-5] = True
    return Blend(
        7, Box(100, 200, 100 + SIZE, 200 + SIZE), image, np.ones_like(image),
        np.zeros(image.shape, bool), footprint, np.array([[20, 20]], np.float32),
        int(Flag.DEBLEND_FALLBACK),
    )  # fmt: skip


def on_the_tile(blend, values):
    """A stamp's values put back on the footprint's own array; 0 elsewhere."""
    whole = np.zeros((*values.shape[:-2], SIZE, SIZE), values.dtype)
    window = blend.box.shift(-100, -200)
    whole[..., *window.slices] = values
    return whole


def test_the_pieces_hold_every_source_once_with_its_light():
    blend = crowd()
    models, xy = classical_models(blend.image, blend.variance, blend.unusable)
    pieces = in_pieces(blend)
    assert len(pieces) > 20
    places = np.concatenate([p.xy + np.array([b.box.x0 - 200, b.box.y0 - 100]) for b, p in pieces])
    order = np.lexsort(np.round(places).T)
    np.testing.assert_allclose(places[order], xy[np.lexsort(np.round(xy).T)], atol=1e-3)
    assert len(places) == len(range(20, SIZE - 20, STEP)) ** 2
    together = sum(on_the_tile(b, p.models.sum(0)) for b, p in pieces)
    np.testing.assert_allclose(together, models.sum(0), atol=1e-4)
    assert {p.n_blended for _, p in pieces} == {len(xy)}
    assert {b.parent_id for b, _ in pieces} == {7}
    assert all(p.flags & Flag.DEBLEND_LIMITED for _, p in pieces)
    assert all(b.flags & Flag.DEBLEND_FALLBACK for b, _ in pieces)
    bytes_of_all = sum(p.models.nbytes for _, p in pieces)
    assert bytes_of_all < models.nbytes / 5


def test_what_belongs_to_other_pieces_is_unusable():
    pieces = in_pieces(crowd())
    light = [on_the_tile(b, p.models.sum(0)) != 0 for b, p in pieces]
    blocked = [on_the_tile(b, b.unusable) for b, _ in pieces]
    for i, (b, p) in enumerate(pieces):
        assert not (light[i] & blocked[i]).any()
        assert max(b.box.shape) <= 3 * SIDE + 2 * FOOTPRINTS.piece_margin
        window = on_the_tile(b, np.ones(b.box.shape, bool))
        others = np.any([light[j].any(0) for j in range(len(pieces)) if j != i], axis=0)
        np.testing.assert_array_equal(blocked[i].all(0), others & window)
        x, y = np.floor(p.xy.T + 0.5).astype(int)
        assert b.footprint[y, x].all()


def test_a_large_source_among_small_ones_is_not_cut_off():
    blend = crowd(step=60, big=300.0)
    pieces = in_pieces(blend)
    ((large, part),) = [(b, p) for b, p in pieces if max(b.box.shape) > 2 * SIDE]
    assert part.models.shape[0] == 1
    whole = classical(blend)
    brightest = whole.models[0].sum()
    np.testing.assert_allclose(part.models.sum(), brightest, rtol=1e-5)
    assert large.image.shape[1:] == large.footprint.shape == large.box.shape


def test_one_source_is_one_piece_and_nothing_is_the_parent_with_its_flag():
    blend = crowd(step=SIZE)
    ((_, part),) = in_pieces(blend)
    assert (part.n_blended, part.quality, part.flags) == (1, "isolated", 0)
    empty = Blend(**{**vars(blend), "image": np.zeros_like(blend.image)})
    ((same, part),) = in_pieces(empty)
    assert same is empty
    assert part.flags == Flag.DEBLEND_FAILED


def separated(blend, xy, limited=False):
    """Sources with some light each, on boxes of 13 pixels."""
    rng = np.random.default_rng(4)
    corners = np.maximum(np.floor(np.array(xy) + 0.5).astype(int) - 6, 0)
    boxes = tuple(Box(y, x, y + 13, x + 13) for x, y in corners)
    lights = tuple(rng.uniform(0, 3, (2, 13, 13)).astype(np.float32) for _ in xy)
    return Separated(
        np.array(xy, np.float32), boxes, lights, "high", limited, np.full(len(xy), 0.25)
    )


def test_a_footprint_separated_as_a_whole_keeps_all_light():
    blend = crowd()
    places = [(60.2, 61.0), (60.4, 60.8), (63.0, 90.0), (200.0, 150.0), (2.0, 2.0)]
    found = separated(blend, places)
    pieces = list(separated_pieces(blend, found, "joint", None))
    # The second shares the first one's pixel and the last is off the footprint.
    assert sorted(len(part.xy) for _, part in pieces) == [1, 2]
    light = np.zeros_like(blend.image)
    for box, own in zip(found.boxes[:4], found.lights[:4], strict=True):
        light[:, *box.slices] += own
    together = sum(on_the_tile(b, p.models.sum(0)) for b, p in pieces)
    np.testing.assert_allclose(together, light, atol=1e-5)
    everything = light.copy()
    everything[:, *found.boxes[4].slices] += found.lights[4]
    for piece, part in pieces:
        window = piece.box.shift(-100, -200).slices
        rest = (blend.image - everything)[:, *window]
        np.testing.assert_allclose(piece.image - part.models.sum(0), rest, atol=1e-4)
        assert not piece.flags & Flag.DEBLEND_FALLBACK
        assert (part.n_blended, part.deblender, part.quality) == (3, "joint", "high")
        assert not part.flags & Flag.DEBLEND_LIMITED


def test_where_the_search_was_ended_each_piece_says_so():
    found = separated(crowd(), [(60.0, 61.0), (200.0, 150.0)], limited=True)
    pieces = separated_pieces(crowd(), found, "joint", None)
    assert all(part.flags & Flag.DEBLEND_LIMITED for _, part in pieces)


def test_what_has_left_its_models_out_already_stays_as_it_is():
    """A footprint that was separated as a whole passes the stage that leaves models out."""
    blend = crowd()
    n, bands = 2, len(blend.image)
    part = DeblendedParent(
        np.zeros((n, bands, 0, 0), np.float32),
        np.array([[60, 61], [200, 150]], np.float32),
        "high",
        "joint",
        measured=not_attempted(n, bands, "exp", "joint"),
        points=measure_points(
            blend,
            np.zeros((n, *blend.image.shape), np.float32),
            np.array([[60, 61], [200, 150]], np.float32),
            (np.full((5, 5), 0.04, np.float32),) * bands,
        ),
    )
    cell = DeblendedCell(
        Detected(None, (blend,), constant([np.full((5, 5), 0.04, np.float32)] * bands)), (part,)
    )
    assert without_models(cell).parts == (part,)
