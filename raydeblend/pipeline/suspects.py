"""After the deblender: how probable it is that a source is two, and a second try where it is.

Cheap statistics are taken of all sources, the networks are asked where these leave doubt.  A
footprint with a source above the threshold is fitted again from the recovered positions, and the
evidence decides whether it has one source more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.configuration import hash_of
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.logistic import probability
from raydeblend.deblend.unrecognized.config import LOOK
from raydeblend.deblend.unrecognized.model import SuspectModel
from raydeblend.deblend.unrecognized.networks import FeatureNetworks
from raydeblend.deblend.unrecognized.statistics import (
    Views,
    join,
    look_at,
    view_sources,
)
from raydeblend.detect.footprints import gaussian_width
from raydeblend.flags import Flag
from raydeblend.pipeline.answers import part_of
from raydeblend.pipeline.batches import deblender_image, psf_for
from raydeblend.pipeline.deblended import DeblendedParent
from raydeblend.pipeline.detected import Detected
from raydeblend.tile import Blend, Deblender, FloatArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What is thought of n sources.

    Attributes
    ----------
    p
        ``(n,)`` probability of being two or more.
    second
        ``(n, 2)`` where the other one would be, relative to the source, in pixels (x, y).
    """

    p: Array
    second: Array


class Suspects:
    """The stage, with its networks loaded once.

    Parameters
    ----------
    model
        The calibration.
    deblender
        That of the catalog; only the joint fit takes positions.
    threshold
        Probability from which a footprint is fitted again.
    """

    def __init__(self, model: SuspectModel, deblender: Deblender, threshold: float) -> None:
        self.model, self.threshold = model, threshold
        self.fitter = _refitter(deblender) if isinstance(deblender, JointDeblender) else None
        self.networks = FeatureNetworks.load() if model.full else None

    @property
    def weights_hash(self) -> str:
        """Hash of the calibration, of its features and of the networks' weights."""
        asked = self.networks
        networks = [asked.srgan.weights_hash, asked.rdn.weights_hash] if asked else []
        return "-".join([self.model.sha256[:16], hash_of(LOOK), *networks])

    def __call__(
        self, detected: Detected, parts: Sequence[DeblendedParent]
    ) -> tuple[DeblendedParent, ...]:
        """Return the parts with probabilities, some of them taken apart further."""
        header = detected.task.cell.tile
        pairs = zip(detected.blends, parts, strict=True)
        chosen = [i for i, pair in enumerate(pairs) if self._covers(detected, *pair)]
        result = list(parts)
        verdicts = self._classify(detected, [result[i] for i in chosen], chosen)
        again: list[int] = []
        for i, verdict in zip(chosen, verdicts, strict=True):
            part = with_verdict(result[i], verdict.p, self.threshold)
            more = self._recover(detected, detected.blends[i], part, verdict, header.pixel_scale)
            result[i] = more or part
            if more:
                again.append(i)
        for i, verdict in zip(
            again, self._classify(detected, [result[i] for i in again], again), strict=True
        ):
            result[i] = with_verdict(result[i], verdict.p, self.threshold)
        return tuple(result)

    def _covers(self, detected: Detected, blend: Blend, part: DeblendedParent) -> bool:
        """Tell whether the calibration holds for a footprint: its deblender, its seeing."""
        return (
            part.deblender == self.model.deblender
            and not part.flags & Flag.DEBLEND_FAILED
            and self.model.holds(gaussian_width(detected.psf_of(blend)))
        )

    def _classify(
        self, detected: Detected, parts: Sequence[DeblendedParent], index: Sequence[int]
    ) -> list[Verdict]:
        """Return the verdict on each part; those of one PSF are looked at together."""
        header = detected.task.cell.tile
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, i in enumerate(index):
            groups[detected.key_of(detected.blends[i])].append(row)
        verdicts: dict[int, Verdict] = {}
        for key, rows in groups.items():
            views = [view_part(detected.blends[index[row]], parts[row]) for row in rows]
            psf = detected.psf.stamps(key)
            found = classify(
                self.model, self.networks, join(views), psf, header.bands, header.pixel_scale
            )
            ends = np.cumsum([len(each) for each in views])[:-1]
            pairs = zip(np.split(found.p, ends), np.split(found.second, ends), strict=True)
            verdicts |= {row: Verdict(*pair) for row, pair in zip(rows, pairs, strict=True)}
        return [verdicts[row] for row in range(len(index))]

    def _recover(
        self,
        detected: Detected,
        blend: Blend,
        part: DeblendedParent,
        verdict: Verdict,
        pixel_scale: float,
    ) -> DeblendedParent | None:
        """Fit a footprint from the recovered positions; None if it has no more sources then."""
        suspects = verdict.p >= self.threshold
        # The light of a large body cannot be shared among a few given positions.
        if self.fitter is None or part.has_body or not suspects.any():
            return None
        found = self.fitter(
            deblender_image(blend)[None],
            variance=blend.variance[None],
            mask=blend.unusable[None],
            psf=psf_for(self.fitter, detected.psf, [blend]),
            bands=detected.task.cell.tile.bands,
            pixel_scale=pixel_scale,
            xy=[recovered(part.xy, verdict, suspects)],
        )
        more = part_of(blend, found, 0, part.deblender)
        if len(more.models) <= len(part.models):
            return None
        work = part.work + more.work
        return replace(more, flags=more.flags | Flag.BLEND_RECOVERED, work=work)


def _refitter(deblender: JointDeblender) -> JointDeblender:
    """Return the joint fit for recovered positions: guesses, to be held no more than peaks are."""
    priors = replace(deblender.priors, given_position_sigma=deblender.priors.center)
    return replace(deblender, priors=priors, drop_given=True)


def with_verdict(part: DeblendedParent, p: Array, threshold: float) -> DeblendedParent:
    """Return the part with the probabilities of its sources."""
    suspected = np.where(p >= threshold, int(Flag.BLEND_SUSPECTED), 0).astype(np.int32)
    others = np.int32(0) if part.source_flags is None else part.source_flags
    return replace(part, p_unrecognized=p.astype(np.float32), source_flags=others | suspected)


def view_part(blend: Blend, part: DeblendedParent) -> Views:
    """Return the sources of one footprint, each with its neighbors taken off."""
    return view_sources(blend.image, blend.variance, blend.unusable, part.models, part.xy)


def classify(
    model: SuspectModel,
    networks: FeatureNetworks | None,
    views: Views,
    psf: tuple[FloatArray, ...],
    bands: Sequence[str],
    pixel_scale: float,
) -> Verdict:
    """Return the verdict on all sources; the networks see those in doubt."""
    seen, where = look_at(views, psf, pixel_scale)
    logit = model.cheap.logit(seen)
    second = where - views.center
    doubt = model.in_doubt(seen, logit)
    if len(doubt) and networks is not None and model.full is not None:
        shown = networks(views.take(doubt), bands, pixel_scale)
        logit[doubt] = model.full.logit(np.column_stack([logit[doubt], shown.features]))
        for i, peaks in zip(doubt, shown.peaks, strict=True):
            if len(peaks) > 1:
                second[i] = _offset(peaks, views.center[i])
    return Verdict(probability(logit), second)


def _offset(peaks: Array, center: Array) -> Array:
    """Return where the second of the two strongest peaks is, seen from the first.

    The one nearer to the source stands for it.
    """
    pair = peaks[:2]
    order = np.argsort(np.linalg.norm(pair - center, axis=1), kind="stable")
    return np.asarray(pair[order[1]] - center)


def recovered(xy: FloatArray, verdict: Verdict, suspects: NDArray[np.bool_]) -> Array:
    """Return the positions of all sources and, of the suspects, of their other halves."""
    known = np.asarray(xy, dtype=np.float64)
    return np.concatenate([known, known[suspects] + verdict.second[suspects]])
