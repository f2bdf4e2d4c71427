"""Products of rows against NumPy's, at every edge of the tiles in which they are taken."""

import numpy as np
import pytest

from raydeblend.fit.compiled.gaussians import BLOCK
from raydeblend.fit.compiled.products import CHUNK, TALL, gram


@pytest.mark.parametrize("samples", [BLOCK, CHUNK, CHUNK + BLOCK])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 5), (3, 4), (5, 12), (4, 8), (1, 9)])
def test_products_are_those_of_numpy(first: int, last: int, samples: int) -> None:
    rng = np.random.default_rng(last)
    rows = rng.normal(size=(13, samples)).astype(np.float32)
    weight = rng.uniform(size=samples).astype(np.float32)
    out = np.full((13, 13), np.nan)
    gram(rows, weight, first, last, np.empty((TALL, CHUNK), dtype=np.float32), out)
    expected = np.einsum("ip,jp,p->ij", rows, rows, weight, dtype=np.float64)
    mine = np.zeros((13, 13), dtype=bool)
    mine[first:last, :last] = mine[:last, first:last] = True
    np.testing.assert_allclose(out[mine], expected[mine], atol=1e-6 * samples)
    assert np.isnan(out[~mine]).all()
