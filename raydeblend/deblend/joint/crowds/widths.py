"""Sources of a crowd that are wider than they are seen."""

from __future__ import annotations

import numpy as np

from raydeblend.deblend.joint.crowds.crowd import Crowd
from raydeblend.deblend.joint.widths import narrowed, too_wide


def bound_widths(crowd: Crowd) -> set[int]:
    """Fit sources that are too wide once more, as compact ones; return which changed."""
    changed: set[int] = set()
    for number in crowd.numbers.tolist():
        own = crowd.members[number].fit
        if not too_wide(crowd.stamp, own, crowd.settings)[0]:
            continue
        if crowd.at_limit():
            break
        near = crowd.near(own.xy[0], crowd.config.trial_sources - 1, [number])
        group = np.append(near, number)
        wide = group == number
        base = narrowed(crowd.fits(group), wide, crowd.settings)
        changed |= set(crowd.accept(crowd.try_fit(group, base, crowd.starts(group))).tolist())
    return changed
