"""The joint deblender: all sources of a blend fitted at once, their number decided by evidence.

Peaks say how many sources there are and where; bulge + disk galaxies are fitted to all of them
together (`raydeblend.fit.scene_fit`); what the residual still shows is tried as another source, and
kept if the fit gains more than a chance source would; sources without significant flux go.
No training: PSF, variance and mask are in the likelihood.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from raydeblend.deblend.joint.bulges import choose_bulges
from raydeblend.deblend.joint.photometry import measure_fits
from raydeblend.deblend.joint.scenes import MOST_WORK, NO_LIMIT, Fit, Limit, Task, draw, fit_tasks
from raydeblend.deblend.joint.search import add_sources, drop_sources, first_peaks
from raydeblend.deblend.joint.stamp import Stamp, lit_samples
from raydeblend.deblend.preparation import prepare
from raydeblend.deblend.sources import Sources, stack_sources
from raydeblend.detect.footprints import gaussian_width, matched_filter
from raydeblend.errors import ConfigError, TileError
from raydeblend.fit.compiled.start import prepare_fit
from raydeblend.fit.priors import JointPriors
from raydeblend.fit.psf import POINT, PsfMixture
from raydeblend.fit.psf_wings import fit_wings
from raydeblend.networks.forward import choose_device
from raydeblend.survey import get_survey, nominal_psf
from raydeblend.tile import Deblended, FloatArray

DEFAULT_SURVEY, DEFAULT_BAND = "LSST", "r"
"""Whose pixel scale and nominal PSF stand in where none is given; fluxes then are rough."""
MODEL_ERROR = 0.003
"""Part of a pixel's light that its variance gets as error: no galaxy is quite bulge + disk."""
BULGE_SHARE = 0.3
"""Of the most work on a blend: in a crowd finding all sources is worth more than their bulges."""
SECONDS = 600.0
"""Wall time for each stamp of a call, far above what `MOST_WORK` takes on any usual machine."""
HIGH_CHI2 = 1.2
"""Reduced χ² up to which the quality of a deblend is ``high``."""
MEDIUM_CHI2 = 2.0
"""The same for ``medium``."""


Judge = Callable[[Sequence[Stamp], Sequence[Fit], JointPriors, torch.device], list[Fit]]


@dataclass(frozen=True)
class JointDeblender:
    """Simultaneous bulge + disk fits; implements `raydeblend.tile.Deblender`.

    Attributes
    ----------
    priors
        Of sizes, shapes and bulges.
    share_residual
        Whether each pixel's residual is shared out by the models' parts of the light there, so
        that structure beyond bulge + disk is kept and all flux is in some model.
    drop_given
        Whether sources at given positions are dropped by evidence, as its own are.
    judge
        What drops those; by default as its own.
    most_work, seconds
        Where it stops with a blend: `scenes.Limit`, its deadline so many seconds for each stamp
        of a call.  A blend whose peaks could not all be fitted has no sources; one in which the
        search for more was ended has those found.  Both have 1 in `extra["limited"]`.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    priors: JointPriors = field(default_factory=JointPriors)
    share_residual: bool = False
    drop_given: bool = False
    judge: Judge = drop_sources
    most_work: float = MOST_WORK
    seconds: float = SECONDS
    name: str = "joint"
    band_masks: ClassVar[bool] = True

    @classmethod
    def load(cls, device: str | None = None) -> JointDeblender:
        """Return the deblender on a torch device, by default the GPU where there is one.

        On a CPU the compiled code of its fit is made ready, which takes a while the first time.
        """
        chosen = choose_device(device)
        if chosen.type == "cpu":
            prepare_fit()
        return cls(chosen)

    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: ArrayLike | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
        xy: Sequence[ArrayLike] | None = None,
    ) -> Deblended:
        """Deblend a batch; see `raydeblend.tile.Deblender`.

        Parameters
        ----------
        xy
            Per stamp the positions ``(k, 2)`` of its sources; then none is added, and none
            dropped but with `drop_given`.

        Returns
        -------
        `Deblended` whose `extra` holds the measurements of `joint_photometry.measure_fits`, and
        ``limited`` ``(n,)``.

        Raises
        ------
        ConfigError
            If shapes do not agree.
        """
        stamps, sigma = self._stamps(images, variance, mask, psf, pixel_scale)
        with one_thread(), torch.inference_mode():
            if xy is None:
                fits = self._find(stamps, Limit(self.most_work, self._deadline(len(stamps))))
            else:
                start = [np.asarray(positions, dtype=np.float64).reshape(-1, 2) for positions in xy]
                told = replace(self.priors, centre=self.priors.told)
                fits = self._fit(stamps, start, told)
                fits = choose_bulges(stamps, fits, told, self.device)
                if self.drop_given:
                    fits = self.judge(stamps, fits, told, self.device)
            orders = [np.argsort(-fit.total.sum(0), kind="stable") for fit in fits]
            sources = [self._sources(*row) for row in zip(stamps, fits, orders, sigma, strict=True)]
        models = [own.models for own in sources]
        measured = measure_fits(stamps, fits, orders, sigma[:, :, 0, 0], models)
        limited = np.array([fit.limited for fit in fits], dtype=bool)
        extra = {**measured, "limited": limited}
        return stack_sources(sources, np.shape(images), extra)

    def _deadline(self, stamps: int) -> float:
        return time.monotonic() + self.seconds * stamps

    def _find(self, stamps: Sequence[Stamp], limit: Limit) -> list[Fit]:
        """Fit the peaks of each stamp, then add and drop sources by evidence."""
        peaks = [first_peaks(stamp) for stamp in stamps]
        fits = self._fit(stamps, peaks, self.priors, limit)
        some = replace(limit, work=BULGE_SHARE * limit.work)
        fits = choose_bulges(stamps, fits, self.priors, self.device, some)
        fits = add_sources(stamps, fits, self.priors, self.device, limit)
        return drop_sources(stamps, fits, self.priors, self.device, limit)

    def _fit(
        self,
        stamps: Sequence[Stamp],
        start: Sequence[NDArray[np.float64]],
        priors: JointPriors,
        limit: Limit = NO_LIMIT,
    ) -> list[Fit]:
        tasks = [
            Task(stamp, xy, compact=np.zeros(len(xy), dtype=bool))
            for stamp, xy in zip(stamps, start, strict=True)
        ]
        return fit_tasks(tasks, priors, self.device, limit)

    def _stamps(
        self,
        images: ArrayLike,
        variance: ArrayLike | None,
        mask: ArrayLike | None,
        psf: ArrayLike | None,
        pixel_scale: float | None,
    ) -> tuple[list[Stamp], FloatArray]:
        made = prepare(images, variance, mask)
        survey = get_survey(DEFAULT_SURVEY)
        pixel_scale = pixel_scale or survey.pixel_scale
        if psf is None:
            nominal = nominal_psf(survey, DEFAULT_BAND, pixel_scale=pixel_scale)
            psf = np.stack([nominal] * made.image.shape[1])
        light = np.clip(made.image, 0, None)
        weight = made.weight / (1 + made.weight * (MODEL_ERROR * light) ** 2)
        mixtures = _psf_of_each(np.asarray(psf, dtype=np.float64), made.image.shape)
        stamps = [
            _stamp(image, weighted, *mixture, pixel_scale)
            for image, weighted, mixture in zip(made.image, weight, mixtures, strict=True)
        ]
        return stamps, made.sigma

    def _sources(
        self, stamp: Stamp, fit: Fit, order: NDArray[np.intp], sigma: FloatArray
    ) -> Sources:
        models = draw(stamp, fit, self.device)
        if self.share_residual:
            models = share(models, stamp)
        xy = fit.theta[order, :2].astype(np.float32)
        return Sources(models[order] * sigma, xy, quality_of(stamp, fit))


def _stamp(
    image: FloatArray,
    weight: FloatArray,
    psf: tuple[PsfMixture | None, ...],
    width: float,
    pixel_scale: float,
) -> Stamp:
    """Make a stamp; a band whose PSF cannot be used is treated as missing."""
    known = np.array([mixture is not None for mixture in psf])
    weight = np.where(known[:, None, None], weight, np.float32(0))
    significance = matched_filter(image, weight, width)
    mixtures = tuple(mixture or POINT for mixture in psf)
    samples = lit_samples(significance, width, weight)
    return Stamp(image, weight, mixtures, width, pixel_scale, *samples)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one CPU thread: for small products more only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share(models: FloatArray, stamp: Stamp) -> FloatArray:
    """Add to each model ``(k, bands, y, x)`` its part of the residual of every used pixel."""
    total = models.sum(0)
    part = models / np.where(total > 0, total, 1)
    residual = np.where(stamp.weight > 0, stamp.image - total, 0)
    return np.asarray(models + part * residual)


def quality_of(stamp: Stamp, fit: Fit) -> str:
    """Return ``high``, ``medium`` or ``low`` by reduced χ² and convergence, ``none`` if empty."""
    if not len(fit.theta):
        return "none"
    reduced = fit.chi2 / max(stamp.n_values, 1)
    if fit.converged and reduced < HIGH_CHI2:
        return "high"
    return "medium" if reduced < MEDIUM_CHI2 else "low"


_Psf = tuple[tuple[PsfMixture | None, ...], float]


def _psf_of_each(psf: NDArray[np.float64], shape: tuple[int, ...]) -> list[_Psf]:
    """Return mixtures and width for each stamp; the same arrays are fitted once."""
    if psf.ndim == 3:
        return [_psf(psf, shape)] * shape[0]
    if psf.ndim != 4 or len(psf) != shape[0]:
        raise ConfigError(f"psf must be (bands, y, x) or (n, bands, y, x), not {psf.shape}")
    known: dict[bytes, _Psf] = {}
    keys = [each.tobytes() for each in psf]
    for key, each in zip(keys, psf, strict=True):
        if key not in known:
            known[key] = _psf(each, shape)
    return [known[key] for key in keys]


def _psf(psf: NDArray[np.float64], shape: tuple[int, ...]) -> _Psf:
    if len(psf) != shape[1]:
        raise ConfigError(f"psf has {len(psf)} bands, the images have {shape[1]}")
    mixtures = tuple(_wings_or_none(stamp) for stamp in psf)
    usable = [stamp for stamp, found in zip(psf, mixtures, strict=True) if found is not None]
    return mixtures, gaussian_width(usable) if usable else 1.0


def _wings_or_none(stamp: NDArray[np.float64]) -> PsfMixture | None:
    try:
        return fit_wings(stamp)
    except TileError:
        return None
