from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from raydeblend.simulate.pairs import with_pairs
from raydeblend.simulate.scene import Grid, make_scene
from raydeblend.survey import get_survey

SURVEY = get_survey("HSC")


def field(seed=1):
    return make_scene(SURVEY, ("i",), Grid(1, 1024, 0, SURVEY.pixel_scale), 60.0, seed)


def test_the_wanted_part_of_the_galaxies_has_moved_into_the_disc_of_another():
    scene = field()
    paired = with_pairs(scene, 0.3, 1.0, 5)
    moved = np.flatnonzero((paired.xy != scene.xy).any(axis=1))
    n = len(scene.galaxies)
    assert len(moved) == int(0.3 * n)
    assert moved.max() < n
    stayed = np.setdiff1d(np.arange(n), moved)
    distance, _ = cKDTree(scene.xy[stayed]).query(paired.xy[moved])
    assert distance.max() * SURVEY.pixel_scale <= 1.0


def test_places_are_uniform_in_the_disc():
    """Half of them lie within √½ of its radius; the fields are sparse, so that hosts are clear."""
    scene = make_scene(SURVEY, ("i",), Grid(1, 4096, 0, SURVEY.pixel_scale), 3.0, 2)
    paired = with_pairs(scene, 0.4, 1.0, 5)
    moved = np.flatnonzero((paired.xy != scene.xy).any(axis=1))
    stayed = np.setdiff1d(np.arange(len(scene.galaxies)), moved)
    distance, _ = cKDTree(scene.xy[stayed]).query(paired.xy[moved])
    inner = np.mean(distance * SURVEY.pixel_scale < np.sqrt(0.5))
    assert abs(inner - 0.5) < 4 * 0.5 / np.sqrt(len(moved))


def test_a_seed_gives_one_field_and_another_seed_another():
    scene = field()
    same = [with_pairs(scene, 0.3, 1.0, seed).xy for seed in (5, 5, 6)]
    np.testing.assert_array_equal(same[0], same[1])
    assert (same[0] != same[2]).any()


def test_nothing_to_move():
    scene = field()
    assert with_pairs(scene, 0.0, 1.0, 1).xy is not scene.xy
    np.testing.assert_array_equal(with_pairs(scene, 0.0, 1.0, 1).xy, scene.xy)
    assert with_pairs(replace(scene), 1.0, 1.0, 1).xy is scene.xy
