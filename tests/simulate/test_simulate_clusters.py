"""Cores of clusters: a large galaxy, and many others in its light."""

import numpy as np
from scipy.spatial.distance import cdist

from raydeblend.simulate.clusters import FAINTER, MEMBERS, SPACING, clusters_scene
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.survey import get_survey

HSC, BANDS, N = get_survey("HSC"), ("g", "r", "i"), 12
SCENE = clusters_scene(HSC, BANDS, N, 3, find_stamps(None, "train"))
HOSTS, MEMBER_XY = SCENE.xy[:N], SCENE.xy[N:]
CLUSTER = cdist(MEMBER_XY, HOSTS).argmin(1)
"""Clusters are far apart: a member's host is the nearest."""


def test_each_host_has_its_members_about_it() -> None:
    counts = np.bincount(CLUSTER, minlength=N)
    assert (counts >= MEMBERS[0]).all()
    assert (counts <= MEMBERS[1]).all()
    assert (cdist(HOSTS, HOSTS) + SPACING * np.eye(N)).min() > 0.9 * SPACING
    away = HSC.pixel_scale * np.hypot(*(MEMBER_XY - HOSTS[CLUSTER]).T)
    # Of two coordinates of a Gaussian of 1.5 half-light radii half are within 1.18 times that.
    assert abs(np.median(away / SCENE.galaxies.r50[CLUSTER]) - 1.18 * 1.5) < 0.4


def test_members_are_fainter_and_most_of_the_color_of_the_host() -> None:
    magnitude = SCENE.galaxies.magnitude
    fainter = magnitude[N:, 2] - magnitude[CLUSTER, 2]
    assert (fainter >= FAINTER[0]).all()
    assert (fainter <= FAINTER[1]).all()
    color = magnitude[:, 0] - magnitude[:, 2]
    red = np.abs(color[N:] - color[CLUSTER]) < 0.12
    assert 0.6 < red.mean() < 0.85


def test_hosts_are_large_smooth_and_of_one_surface_brightness() -> None:
    galaxies = SCENE.galaxies
    surface = galaxies.magnitude[:N, 2] + 5 * np.log10(galaxies.r50[:N])
    assert surface.std() < 2.5 * 5 * 0.25 / np.log(10)
    assert (galaxies.index[:N] >= 2).all()
    assert np.isfinite(galaxies.g[:N]).all()
    assert (SCENE.flux > 0).all()


def test_a_seed_gives_the_same_clusters() -> None:
    again = clusters_scene(HSC, BANDS, N, 3, find_stamps(None, "train"))
    assert np.array_equal(again.xy, SCENE.xy)
    other = clusters_scene(HSC, BANDS, N, 4, find_stamps(None, "train"))
    assert not np.array_equal(other.flux, SCENE.flux[: len(other.flux)])
