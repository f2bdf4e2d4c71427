"""How like the galaxies kept for validation a generator's are: what says which run is better."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from raydeblend.measure.distributions import compare_distributions, measure_distributions
from raydeblend.train.state import Scalars

COMPARED = ("flux", "half_light", "ellipticity", "concentration")
"""Light, size, shape and profile; `raydeblend evaluate gan` shows two more quantities."""


def likeness_scores(real: Tensor, fake: Tensor) -> Scalars:
    """Return the Kolmogorov-Smirnov distances of images in sky sigmas ``(n, bands, y, x)``.

    The first band is measured.  `ks` is the mean over the four quantities; about 0.87 / sqrt(n / 2)
    is to be expected of n images each of one population.
    """
    ours, theirs = (
        measure_distributions(images[:, 0].cpu().numpy().astype(np.float32))
        for images in (fake, real)
    )
    distances = compare_distributions(ours, theirs)
    compared = {f"ks_{name}": distances[name] for name in COMPARED}
    return compared | {"ks": sum(compared.values()) / len(COMPARED)}
