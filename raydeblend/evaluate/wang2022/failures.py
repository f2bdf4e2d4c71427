"""How deblenders fail on blends of known truth (Wang et al. 2022, section III.D).

A blend is right when there are as many models as galaxies and each galaxy has one.  The paper's
peeling fails where two galaxies are about equally bright, since it cannot tell which to take
first; these blends are counted apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.wang2022.scores import Scores

EQUAL = 0.8
"""Flux of one galaxy over that of the next brighter one from which they are equally bright."""
EXAMPLES = 4
"""Blends of each kind in a gallery."""


@dataclass(frozen=True)
class Failures:
    """What went wrong, ``(n,)`` each; one blend may be several.

    Attributes
    ----------
    missing
        A galaxy has no model.
    extra
        There are more models than galaxies.
    merged
        One model holds most of two galaxies.
    equal
        Two galaxies are equally bright, whether it fails or not.
    """

    missing: NDArray[np.bool_]
    extra: NDArray[np.bool_]
    merged: NDArray[np.bool_]
    equal: NDArray[np.bool_]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """A galaxy is missing or a model has no galaxy."""
        return self.missing | self.extra

    def label(self, blend: int) -> str:
        """Return in words what is wrong with a blend."""
        kinds = {
            "two in one": self.merged,
            "missing": self.missing & ~self.merged,
            "too many": self.extra,
            "equally bright": self.equal,
        }
        return ", ".join(name for name, which in kinds.items() if which[blend])


def find_failures(scores: Scores) -> Failures:
    """Sort a deblender's failures."""
    missing: NDArray[np.bool_] = np.asarray(~scores.found.all(axis=1))
    return Failures(
        missing=missing,
        extra=np.asarray(scores.count > scores.n_galaxies),
        # A model with some of a galaxy that has a model of its own is no failure to tell apart.
        merged=np.asarray(scores.merged & missing),
        equal=equally_bright(scores.flux_true),
    )


def equally_bright(flux: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which blends ``(n, k)`` have two galaxies within a factor `EQUAL` of each other."""
    ordered = np.sort(flux, axis=1)
    return np.asarray((ordered[:, :-1] / ordered[:, 1:] >= EQUAL).any(axis=1))


def examples(scores: Scores, other: Scores) -> tuple[list[int], list[int]]:
    """Choose blends where one deblender fails and another does not (Figs. 13 and 14).

    Returns
    -------
    At most `EXAMPLES` blends that `scores` gets wrong and `other` right, and the reverse; of
    equal brightness first, then in the order of the test set.
    """
    mine, others = find_failures(scores), find_failures(other)
    return _pick(mine.wrong & ~others.wrong, mine), _pick(others.wrong & ~mine.wrong, others)


def _pick(which: NDArray[np.bool_], failures: Failures) -> list[int]:
    rows = np.flatnonzero(which)
    order = np.argsort(~(failures.equal & failures.merged)[rows], kind="stable")
    return [int(row) for row in rows[order][:EXAMPLES]]


def pair_up(scores: Sequence[Scores], baseline: str) -> Mapping[tuple[str, int], Scores]:
    """Return the baseline's scores on the same blends for each other deblender's."""
    reference = {score.n_galaxies: score for score in scores if score.deblender == baseline}
    return {
        (score.deblender, score.n_galaxies): reference[score.n_galaxies]
        for score in scores
        if score.deblender != baseline and score.n_galaxies in reference
    }
