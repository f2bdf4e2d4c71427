"""More close pairs than the sky has, to learn from: galaxies moved next to others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raydeblend.simulate.scene import Scene


def with_pairs(scene: Scene, fraction: float, radius: float, seed: int) -> Scene:
    """Move some galaxies of a field next to others.

    Hosts are drawn without regard to anything and places uniformly in a disc about them, so that
    the pairs are those of galaxies at random positions, only more of them.

    Parameters
    ----------
    fraction
        Part of the galaxies that are moved, from 0 to 1.
    radius
        Of the disc, in arcsec.
    seed
        The same seed moves the same galaxies to the same places.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    order = rng.permutation(len(scene.galaxies))
    moved, hosts = np.split(order, [int(fraction * len(order))])
    if not len(hosts):
        return scene
    distance = radius / scene.grid.pixel_scale * np.sqrt(rng.random(len(moved)))
    angle = rng.uniform(0, 2 * np.pi, len(moved))
    offset = distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    xy = scene.xy.copy()
    xy[moved] = scene.xy[rng.choice(hosts, len(moved))] + offset
    return replace(scene, xy=xy)
