"""Which sources of a crowd go: those that the pixels about them hardly miss."""

from __future__ import annotations

import numpy as np

from raydeblend.deblend.joint.crowds.crowd import Crowd


def drop_sources(crowd: Crowd) -> set[int]:
    """Take out doubtful sources, the least significant first; return which others changed.

    Of two that are one galaxy the less significant goes in any case.  A source that stayed is
    asked again where something near it changed.
    """
    changed: set[int] = set()
    due = set(crowd.members)
    while due:
        order = sorted(due, key=lambda n: (float(crowd.members[n].fit.snr[0]), n))
        due = set()
        for number in order:
            if len(crowd.members) < 2 or crowd.at_limit():
                return changed & set(crowd.members)
            if number in crowd.members:
                moved = _try_without(crowd, number)
                due |= moved
                changed |= moved
        due &= set(crowd.members)
    return changed & set(crowd.members)


def _try_without(crowd: Crowd, number: int) -> set[int]:
    """Take a source out if it is doubtful and hardly missed; return which others moved."""
    config, own = crowd.settings.config, crowd.members[number].fit
    near = crowd.near(own.xy[0], crowd.config.trial_sources - 1, [number])
    pair = _is_weaker_of_one(crowd, number, int(near[0]))
    if not pair and own.snr[0] > config.prune.max_doubtful_snr:
        return set()
    least = -np.inf if pair else -config.search.min_gain
    group, rest = np.append(near, number), crowd.fits(near)
    trial = crowd.try_fit(group, rest, crowd.starts(near), least, own.xy)
    if not trial.gain > least:
        return set()
    return set(crowd.accept(trial).tolist())


def _is_weaker_of_one(crowd: Crowd, number: int, other: int) -> bool:
    """Tell whether a source and the one nearest to it are one galaxy, and it the weaker."""
    one, two = crowd.members[number].fit, crowd.members[other].fit
    apart = np.hypot(*(one.xy[0] - two.xy[0]))
    weaker = one.snr[0] <= two.snr[0]
    return bool(apart < crowd.settings.config.prune.min_separation * crowd.stamp.width and weaker)
