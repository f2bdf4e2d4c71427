"""Where the shapes of a source may be: shears below 1, and indices that there are Gaussians for.

A source whose profile is flatter, or which is longer, than any in the domain ends at its bound.
There the objective still falls outwards, so that a step that knows nothing of bounds is refused,
shorter ones too, and with them those of all other sources.  So a step ends at a bound, the others
knowing of it, and what would go beyond is held: projected Newton steps (Bertsekas 1982, SIAM J.
Control Optim. 20, 221).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.cache import part
from raydeblend.fit.sersic import LOG_INDICES

Array = NDArray[np.float64]

MOST_BULGE_SHEAR = 0.95
"""Bulges of this shear or more are outside the domain; for disks the prior sees to that."""
LONGEST_DISK, LONGEST_BULGE = 0.999, 0.999 * MOST_BULGE_SHEAR
"""Shears at which steps end that would make a disk or a bulge longer."""
HELD = 0.9999
"""From this part of them on they are held."""
_DISK_SHEAR, _BULGE_SHEAR, _LOG_INDEX = 2, 6, 8
_LEAST_LOG_INDEX, _MOST_LOG_INDEX = LOG_INDICES


@part()
def inside(theta: Array) -> bool:
    """Tell whether the shears of a source ``(9,)`` are in the domain."""
    room = 1 - theta[2] ** 2 - theta[3] ** 2
    return bool(room > 1e-6 and theta[6] ** 2 + theta[7] ** 2 < MOST_BULGE_SHEAR**2)


@part()
def hold(theta: Array, gradient: Array, held: NDArray[np.bool_]) -> None:
    """Tell which parameters of a source ``(9,)`` stay: shears that would go beyond their bound."""
    for first in (_DISK_SHEAR, _BULGE_SHEAR):
        outwards = -theta[first] * gradient[first] - theta[first + 1] * gradient[first + 1]
        size = np.sqrt(theta[first] ** 2 + theta[first + 1] ** 2)
        most = LONGEST_DISK if first == _DISK_SHEAR else LONGEST_BULGE
        held[first] = held[first + 1] = outwards > 0 and size > HELD * most


@part()
def limit(theta: Array, largest: tuple[float, ...], step: Array) -> None:
    """Shorten the step of a source ``(9,)`` to what is allowed, in place."""
    for i in range(len(step)):
        step[i] = min(max(step[i], -largest[i]), largest[i])
    least, most = _LEAST_LOG_INDEX - theta[_LOG_INDEX], _MOST_LOG_INDEX - theta[_LOG_INDEX]
    step[_LOG_INDEX] = min(max(step[_LOG_INDEX], least), most)
    for first in (_DISK_SHEAR, _BULGE_SHEAR):
        one, two = theta[first] + step[first], theta[first + 1] + step[first + 1]
        size = np.sqrt(one**2 + two**2)
        most = LONGEST_DISK if first == _DISK_SHEAR else LONGEST_BULGE
        if size > most:
            step[first] = one * most / size - theta[first]
            step[first + 1] = two * most / size - theta[first + 1]
