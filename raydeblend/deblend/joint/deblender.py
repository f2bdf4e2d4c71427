"""The joint deblender: all sources of a blend fitted at once, their number decided by evidence.

Bulge + disk galaxies are fitted to all peaks together (`raydeblend.fit.scene_fit`).  Peaks of the
residual are then tried as further sources, and kept if the fit gains more than from a chance
source; sources without significant flux are dropped.  There is no training: PSF, variance and mask
enter the likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from raydeblend.deblend.configuration import hash_of
from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import JointConfig, QualityConfig
from raydeblend.deblend.joint.crowds.light import blendedness, neighbor_flux
from raydeblend.deblend.joint.crowds.light import images as images_of
from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.find import Found, find_all, fit_all_given
from raydeblend.deblend.joint.fitting import render
from raydeblend.deblend.joint.free_profiles import free_profiles, with_fluxes
from raydeblend.deblend.joint.galaxies import Galaxies
from raydeblend.deblend.joint.photometry import measure_galaxies
from raydeblend.deblend.joint.pixels import make_stamps
from raydeblend.deblend.joint.prune import drop_sources
from raydeblend.deblend.joint.seen_psf import Psf, psf_of_each
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.joint.star_psf import with_star_psf
from raydeblend.deblend.joint.structure import StructureModel, galaxies_of, shipped_structure
from raydeblend.deblend.preparation import prepare
from raydeblend.deblend.sources import Sources, stack_sources
from raydeblend.fit.compiled.start import prepare_fit
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.measure.blendedness import neighbor_flux as flux_of_neighbors
from raydeblend.networks.forward import choose_device
from raydeblend.survey import get_survey, nominal_psf
from raydeblend.tile import Deblended, FloatArray, Separated

DEFAULT_SURVEY, DEFAULT_BAND = "LSST", "r"
"""Survey and band whose pixel scale and nominal PSF are used if none is given, for rough fluxes."""

Prune = Callable[[Sequence[Stamp], Sequence[BlendFit], FitSettings], list[BlendFit]]


@dataclass(frozen=True)
class JointDeblender:
    """Simultaneous bulge + disk fits; implements `raydeblend.tile.Deblender`.

    Attributes
    ----------
    priors
        Priors on sizes, shapes and bulges.
    config
        All tuned parameters.  Its limits end the work on a blend: if its peaks could not all be
        fitted it has no sources; if the search for more was ended it has those found so far.
        Either way `extra["limited"]` is 1.
    drop_given
        Whether sources at given positions may be dropped by evidence, as detected ones are.
    prune
        How to drop those; by default as detected ones.
    structure
        Model that tells which sources are parts of another; if None, none is.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    priors: BulgeDiskPriors = field(default_factory=BulgeDiskPriors)
    config: JointConfig = field(default_factory=JointConfig)
    drop_given: bool = False
    prune: Prune = drop_sources
    structure: StructureModel | None = None
    name: str = "joint"
    band_masks: ClassVar[bool] = True
    psf_by_place: ClassVar[bool] = True
    takes_cores: ClassVar[bool] = True

    @classmethod
    def load(cls, device: str | None = None) -> JointDeblender:
        """Return the deblender on a torch device, by default the GPU if there is one.

        On a CPU this compiles the fit's code, which takes a while the first time.
        """
        chosen = choose_device(device)
        if chosen.type == "cpu":
            prepare_fit()
        return cls(chosen, structure=shipped_structure())

    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: Psf | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
        xy: Sequence[ArrayLike] | None = None,
        cores: FloatArray | None = None,
    ) -> Deblended:
        """Deblend a batch; see `raydeblend.tile.Deblender`.

        Parameters
        ----------
        psf
            If it varies by place, each source uses the one at its expected position.
        xy
            Per stamp the positions ``(k, 2)`` of its sources; then none is added, and none is
            dropped unless `drop_given`.
        cores
            ``(n, bands, y, x)`` light hidden by the mask, which shows where saturated stars are.

        Returns
        -------
        `Deblended` whose `extra` holds the measurements of `photometry.measure_galaxies`,
        ``limited``, ``work`` and ``has_body`` ``(n,)``, and ``parts_xy`` ``(n, m, 2)``: sources
        that were merged into brighter ones, and peaks on the bodies of large galaxies.

        Raises
        ------
        ConfigError
            If shapes do not agree.
        """
        found = self.find(images, variance, mask, psf, pixel_scale, xy, cores)
        return stack_sources(found, np.shape(images))

    def find(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: Psf | None = None,
        pixel_scale: float | None = None,
        xy: Sequence[ArrayLike] | None = None,
        cores: FloatArray | None = None,
    ) -> list[Sources]:
        """Return the sources of each stamp, measured; the arguments are those of a call."""
        stamps, sigma = self.make_stamps(images, variance, mask, psf, pixel_scale, cores)
        with one_thread(), torch.inference_mode():
            if xy is None:
                found = find_all(stamps, self.settings, self.config.limits.most_values)
            else:
                found = self._fit_given(stamps, xy)
            structure = self.structure if xy is None else None
            free = free_profiles(
                stamps, found, self.settings if xy is None else self.given_settings
            )
            columns = zip(stamps, found, free, sigma, strict=True)
            return [self._sources(*row, structure) for row in columns]

    def fits(
        self,
        images: ArrayLike,
        variance: ArrayLike | None,
        mask: ArrayLike | None,
        psf: Psf | None,
        pixel_scale: float,
    ) -> list[tuple[Stamp, Found, FloatArray]]:
        """Return each stamp, its fit before structure is merged, and the unit.

        The unit of the fluxes is ``(bands,)``.
        """
        stamps, sigma = self.make_stamps(images, variance, mask, psf, pixel_scale)
        with one_thread(), torch.inference_mode():
            found = find_all(stamps, self.settings, self.config.limits.most_values)
        return list(zip(stamps, found, sigma[:, :, 0, 0], strict=True))

    def separate_footprint(
        self,
        image: ArrayLike,
        variance: ArrayLike,
        mask: ArrayLike,
        psf: Psf,
        pixel_scale: float,
        xy: ArrayLike | None = None,
        position_sigma: float | None = None,
        cores: FloatArray | None = None,
    ) -> Separated:
        """Separate one footprint of any size; see `raydeblend.tile.Separated`.

        Parameters
        ----------
        image, variance, mask
            ``(bands, y, x)``, as for a batch.
        xy, position_sigma
            ``(k, 2)`` positions of its sources, and how well they are known, in pixels.  Then none
            is added or dropped; the positions come back as they are, ``shift`` is what the fit
            moved them.
        cores
            ``(1, bands, y, x)``, as for a batch.
        """
        images, variances, masks = (np.asarray(each)[None] for each in (image, variance, mask))
        stamps, sigma = self.make_stamps(images, variances, masks, psf, pixel_scale, cores)
        given = None if xy is None else np.asarray(xy, dtype=np.float64).reshape(-1, 2)
        with one_thread(), torch.inference_mode():
            if given is None:
                settings = self.settings
                (found,) = find_all(stamps, settings)
            else:
                settings = self._held(position_sigma)
                (found,) = fit_all_given(stamps, [given], settings)
            (free,) = free_profiles(stamps, [found], settings)
        (stamp,), unit, fit = stamps, sigma[0, :, 0, 0], with_fluxes(found.fit, free)
        structure = self.structure if given is None else None
        parts = found.patches_of(stamp, self.config.blocks)
        galaxies = self._galaxies(stamp, found.fit, parts, structure)
        patches = galaxies.patches(parts)
        neighbors = neighbor_flux(patches, stamp.weight) * unit
        config = self._measuring(found)
        extra = measure_galaxies(stamp, fit, galaxies, patches, neighbors, unit, config)
        places = fit.xy[galaxies.brightest]
        if given is not None and len(places):
            fitted, places = places, given[_nearest_each(places, given)]
            extra["shift"] = fitted - places
        return Separated(
            xy=places.astype(np.float32),
            boxes=tuple(patch.box for patch in patches),
            lights=tuple(patch.light * sigma[0] for patch in patches),
            quality=quality_of(stamp, fit, self.config.quality),
            limited=fit.limited,
            blendedness=blendedness(patches, stamp.image.shape),
            extra=extra,
            work=fit.work,
            parts_xy=found.parts_xy(galaxies.merged).astype(np.float32),
        )

    def with_work(self, factor: float) -> JointDeblender:
        """Return the deblender with limits of work and time that are larger by a factor."""
        limits = self.config.limits
        more = replace(
            limits,
            most_work=factor * limits.most_work,
            work_per_source=factor * limits.work_per_source,
            seconds=factor * limits.seconds,
        )
        return replace(self, config=replace(self.config, limits=more))

    @property
    def weights_hash(self) -> str:
        """Hash of configuration and priors: to this fit they are what weights are to a network."""
        own = hash_of(self.config, self.priors)
        return own if self.structure is None else f"{own}-{self.structure.sha256[:16]}"

    @property
    def settings(self) -> FitSettings:
        """What its fits depend on; without a limit."""
        return FitSettings(self.priors, self.device, self.config)

    @property
    def given_settings(self) -> FitSettings:
        """The same where positions are given: held as these are known."""
        return self._held(self.priors.given_position_sigma)

    def _held(self, position_sigma: float | None) -> FitSettings:
        """Return the settings with positions that are known so well, in pixels; None for usual."""
        center = self.priors.center if position_sigma is None else position_sigma
        return replace(self.settings, priors=replace(self.priors, center=center))

    def _fit_given(self, stamps: Sequence[Stamp], xy: Sequence[ArrayLike]) -> list[Found]:
        """Fit sources at given positions."""
        settings = self.given_settings
        start = [np.asarray(positions, dtype=np.float64).reshape(-1, 2) for positions in xy]
        usual = self.drop_given and self.prune is drop_sources
        most = self.config.limits.most_values
        found = fit_all_given(stamps, start, settings, most, drop_in_crowds=usual)
        due = [i for i, own in enumerate(found) if not (usual and own.patches is not None)]
        if self.drop_given:
            fits = [found[i].fit for i in due]
            pruned = self.prune([stamps[i] for i in due], fits, settings)
            for i, fit in zip(due, pruned, strict=True):
                found[i] = Found(fit)
        return found

    def make_stamps(
        self,
        images: ArrayLike,
        variance: ArrayLike | None,
        mask: ArrayLike | None,
        psf: Psf | None,
        pixel_scale: float | None,
        cores: FloatArray | None = None,
    ) -> tuple[list[Stamp], FloatArray]:
        """Return what is fitted of each stamp, and their noise ``(n, bands, 1, 1)``."""
        made = prepare(images, variance, mask)
        survey = get_survey(DEFAULT_SURVEY)
        pixel_scale = pixel_scale or survey.pixel_scale
        if psf is None:
            nominal = nominal_psf(survey, DEFAULT_BAND, pixel_scale=pixel_scale)
            psf = np.stack([nominal] * made.image.shape[1])
        seen = psf_of_each(psf, made.image.shape)
        stamps = make_stamps(made, variance, cores, seen, pixel_scale, self.config.pixels)
        return [with_star_psf(stamp, self.config.stars) for stamp in stamps], made.sigma

    def _sources(
        self,
        stamp: Stamp,
        found: Found,
        free: BlendFit,
        sigma: FloatArray,
        structure: StructureModel | None,
    ) -> Sources:
        """Return the galaxies of one stamp, whose unit is `sigma` ``(bands, 1, 1)``.

        Their fluxes are those of `free`.
        """
        if found.patches is None:
            light = render(stamp, found.fit, self.device)
            parts = [Patch.whole(image) for image in light]
        else:
            parts = found.patches
            light = images_of(parts, stamp.image.shape)
        galaxies = self._galaxies(stamp, found.fit, parts, structure)
        fit = with_fluxes(found.fit, free)
        models = galaxies.sums(light)
        unit = sigma[:, 0, 0]
        neighbors = flux_of_neighbors(models, stamp.weight) * unit
        return Sources(
            models * sigma,
            fit.xy[galaxies.brightest].astype(np.float32),
            quality_of(stamp, fit, self.config.quality),
            measure_galaxies(
                stamp,
                fit,
                galaxies,
                galaxies.patches(parts),
                neighbors,
                unit,
                self._measuring(found),
            ),
            of_stamp={
                "limited": np.bool_(fit.limited),
                "work": np.float64(fit.work),
                "has_body": np.bool_(found.has_body),
            },
            beside={"parts_xy": found.parts_xy(galaxies.merged).astype(np.float32)},
        )

    def _measuring(self, found: Found) -> JointConfig:
        """Return the configuration for measurements: errors of a body's structure are not capped.

        They are in its curvature, and not in the noise of the stamp.
        """
        if not found.has_body:
            return self.config
        structure = replace(self.config.structure, most_curvature=np.inf)
        return replace(self.config, structure=structure)

    def _galaxies(
        self,
        stamp: Stamp,
        fit: BlendFit,
        parts: Sequence[Patch],
        structure: StructureModel | None,
    ) -> Galaxies:
        """Return which sources are one galaxy; each is its own without a model of structure."""
        galaxy = np.arange(len(fit.theta))
        if structure is not None and len(galaxy) > 1:
            galaxy = galaxies_of(stamp, fit, parts, structure.trees, self.config.structure)
        return Galaxies.of(galaxy, fit.total.sum(0))


def _nearest_each(fitted: NDArray[np.float64], given: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return which given position each fitted one is, no two the same."""
    apart = cdist(fitted, given, "sqeuclidean")
    return np.asarray(linear_sum_assignment(apart)[1], dtype=np.intp)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one CPU thread: for small products more only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quality_of(stamp: Stamp, fit: BlendFit, config: QualityConfig) -> str:
    """Return ``high``, ``medium`` or ``low`` by reduced χ² and convergence, ``none`` if empty."""
    if not len(fit.theta):
        return "none"
    return quality_by(fit.chi2 / max(stamp.n_values, 1), fit.converged, config)


def quality_by(reduced: float, converged: bool, config: QualityConfig) -> str:
    """Return the quality of a fit of some reduced χ²."""
    if converged and reduced < config.high_chi2:
        return "high"
    return "medium" if reduced < config.medium_chi2 else "low"
