"""How a catalog is cut, against plain counting."""

import numpy as np
import pytest
from hats.pixel_math.healpix_pixel import HealpixPixel
from hats.pixel_math.partition_stats import generate_alignment
from hats.pixel_tree.negative_tree import compute_negative_tree_pixels
from hats.pixel_tree.pixel_tree import PixelTree

from raydeblend.errors import ConfigError
from raydeblend.export.partitions import COUNTED, Counts, Partition, cut, empty_pixels

# A clump, a field and a lone pixel far away.
PIXELS = np.unique(
    np.concatenate(
        [np.arange(5000, 5040), np.random.default_rng(1).integers(4096, 8192, 300), [11_000_000]]
    )
)
ROWS = np.random.default_rng(2).integers(1, 50, len(PIXELS))


@pytest.mark.parametrize("most", [60, 900, 100_000])
def test_partitions_are_those_of_hats(most: int) -> None:
    found = cut(PIXELS, ROWS, most)
    assert sum(found.values()) == ROWS.sum()
    assert max(found.values()) <= most
    order = 6
    coarse, place = np.unique(PIXELS >> 2 * (COUNTED - order), return_inverse=True)
    counts = np.zeros(12 * 4**order, np.int64)
    counts[coarse] = np.bincount(place, ROWS)
    if counts.max() > most:
        return
    # From order 6 down, since at order 10 hats takes a minute.
    made = generate_alignment(
        counts, order, 0, most, drop_empty_siblings=True, use_lower_order=True
    )
    theirs = {(int(o), int(p)): int(n) for o, p, n in (row for row in made if row is not None)}
    assert {(p.order, p.pixel): n for p, n in found.items()} == theirs


def test_a_pixel_with_too_many_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="order 10 holds 49 rows; give --rows-per-partition"):
        cut(PIXELS, np.minimum(ROWS, 49), 48)


def test_the_rest_of_the_sky_is_that_of_hats() -> None:
    partitions = list(cut(PIXELS, ROWS, 900))
    empty = empty_pixels(partitions)
    area = sum(1 / 4**p.order for p in [*partitions, *empty])
    assert area == pytest.approx(12, abs=1e-12)
    tree = PixelTree.from_healpix([HealpixPixel(p.order, p.pixel) for p in partitions])
    theirs = {(p.order, p.pixel) for p in compute_negative_tree_pixels(tree)}
    assert {(p.order, p.pixel) for p in empty} == theirs


def test_shards_are_found_by_any_pixel_that_holds_rows_of_theirs() -> None:
    rng = np.random.default_rng(4)
    shards = [np.unique(rng.integers(0, 4096, 20)) for _ in range(30)]
    counts = Counts.join([(pixels, np.ones(len(pixels), np.int64)) for pixels in shards])
    for order in (10, 8, 6):
        pixels = rng.integers(0, 4096 >> 2 * (10 - order), 3)
        wanted = [
            i for i, own in enumerate(shards) if np.isin(own >> 2 * (10 - order), pixels).any()
        ]
        assert counts.shards_in(order, pixels).tolist() == wanted
    assert Partition(8, 3).range_at(10) == (48, 64)
