"""Accuracy of the counter by class, on noisy and noiseless images (Wang et al. 2022, II.C, II.D).

The test images are those of the deblenders' test set, with galaxies left out: of every blend of
two, nothing, the brighter galaxy, the fainter one and both; of every blend of three, all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common.blends import Blends, BlendSet
from raydeblend.evaluate.common.rows import Row, cell, fraction
from raydeblend.evaluate.common.tables import Table
from raydeblend.survey import get_survey
from raydeblend.tile import FloatArray

Counts = NDArray[np.int64]
CLASSES = 4
KINDS = ("noisy", "noiseless")
CHUNK = 64


@dataclass(frozen=True)
class Confusion:
    """How often the counter says each number, ``(4, 4)`` by true number and said number."""

    kind: str
    table: Counts


def count_test_set(
    counter: Callable[[FloatArray], Counts], data: BlendSet, seed: int = 0
) -> list[Confusion]:
    """Count noisy and noiseless images of 0 to 3 galaxies made of a test set.

    Parameters
    ----------
    counter
        Maps ``(n, bands, y, x)`` in noise units to 0, 1, 2 or 3.
    seed
        Of the noise, which only the images that are no blend of the test set need.
    """
    rng = np.random.default_rng(seed)
    tables = {kind: np.zeros((CLASSES, CLASSES), np.int64) for kind in KINDS}
    for blends in data.blends:
        for start in range(0, len(blends), CHUNK):
            part = blends[start : start + CHUNK]
            for kind, true, images in _images(part, data.bands, rng):
                tables[kind][true] += np.bincount(counter(images), minlength=CLASSES)
    return [Confusion(kind, table) for kind, table in tables.items()]


def _images(
    blends: Blends, bands: tuple[str, ...], rng: np.random.Generator
) -> Iterator[tuple[str, int, FloatArray]]:
    k = blends.n_galaxies
    yield "noisy", k, blends.images
    yield "noiseless", k, blends.isolated.sum(axis=1)
    if k == 2:
        for scene, true in _fewer(blends):
            yield "noiseless", true, scene
            yield "noisy", true, add_noise(scene, bands, rng)


def _fewer(blends: Blends) -> Iterator[tuple[FloatArray, int]]:
    yield np.zeros_like(blends.images), 0
    yield blends.isolated[:, 0], 1
    yield blends.isolated[:, 1], 1


def add_noise(scene: FloatArray, bands: tuple[str, ...], rng: np.random.Generator) -> FloatArray:
    """Add the noise of sky and sources of LSST's ten years to images in units of sky sigma."""
    survey = get_survey("LSST")
    sky = np.array([survey.band(band).sky_electrons for band in bands])[:, None, None]
    sigma = np.sqrt(1 + np.maximum(scene, 0) / np.sqrt(sky))
    return np.asarray(scene + rng.normal(size=scene.shape) * sigma, dtype=np.float32)


def counter_rows(confusions: list[Confusion]) -> list[Row]:
    """Return the accuracy of each class and of all, with limits, for each kind of image."""
    rows: list[Row] = []
    for confusion in confusions:
        row: Row = {"images": confusion.kind, "n": int(confusion.table.sum())}
        for true, said in enumerate(confusion.table):
            if said.sum():
                row |= fraction(f"accuracy_{true}", _hits(said[true], said.sum()))
        right = np.trace(confusion.table)
        rows.append(row | fraction("accuracy", _hits(right, confusion.table.sum())))
    return rows


def _hits(right: np.integer, n: np.integer) -> NDArray[np.bool_]:
    return np.arange(int(n)) < int(right)


def counter_table(rows: list[Row]) -> Table:
    """Return the accuracies by the number of galaxies."""
    names = [*(f"accuracy_{k}" for k in range(CLASSES)), "accuracy"]
    header = ["images", "n", "0 galaxies", "1", "2", "3 or more", "all"]
    lines = [
        [
            str(row["images"]),
            str(row["n"]),
            *(cell(row, name, ".1%") if name in row else "–" for name in names),
        ]
        for row in rows
    ]
    return Table(header, lines, "Counter")
