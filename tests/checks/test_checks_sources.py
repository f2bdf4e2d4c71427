"""What a few bright sources say of the PSF of one band beside the others."""

import numpy as np
import pytest

from raydeblend.checks.config import CHECKS
from raydeblend.checks.faults import CellFacts, find_faults
from raydeblend.checks.pixels import PixelFacts
from raydeblend.checks.sources import BandByBand

BANDS = ("g", "r", "i")
NO_FACTS = PixelFacts(np.ones(3), *(np.full(3, np.nan) for _ in range(6)))


@pytest.mark.parametrize("narrower", [0.5, 0.1, 0.01])
def test_a_psf_that_is_far_too_narrow_is_named_by_few_stars(narrower: float) -> None:
    # T of a star over that of a PSF narrower by f is f^-2, with a scatter of five percent.
    scatter = 1 + 0.05 * np.array([-1, -0.5, 0, 0.2, 0.6, 1])
    excess = np.zeros((6, 3))
    excess[:, 1] = scatter * narrower**-2 - 1
    width = np.full((6, 3), 2.0) * [1, narrower, 1]
    faults = list(find_faults(facts_of(excess, width), CHECKS))
    assert faults == [
        f"the PSF of band r is {1 - narrower:.0%} narrower than its sources say, compared with "
        "the other bands"
    ]


def facts_of(excess: np.ndarray, width: np.ndarray) -> CellFacts:
    n = len(excess)
    sources = BandByBand(np.zeros((n, 3, 2)), np.ones((n, 3)), np.ones((n, 3)), excess, width)
    return CellFacts(BANDS, (True,) * 3, NO_FACTS, sources, has_locus=False)
