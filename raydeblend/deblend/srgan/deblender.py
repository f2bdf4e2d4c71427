"""Positions from the super-resolved image, models on the original pixels (Hemmati et al. 2022).

The network sharpens each stamp threefold and a PSF-aware peak finder finds the sources in the
result.  As in the paper (section 4.1), photometry is not taken from the sharpened image, whose
fluxes are not conserved: galaxies are fitted at those positions to the original pixels.  They are
bulge + disk galaxies, all at once (`JointDeblender` with given positions), or, without a PSF, the
segments of the sharpened image, blurred and fitted with an amplitude each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.segmentation import watershed
from torch import Tensor, nn

from raydeblend.deblend.bands import choose_bands, network_image
from raydeblend.deblend.base import Batch, NetworkDeblender
from raydeblend.deblend.configuration import hash_of
from raydeblend.deblend.joint.deblender import JointDeblender, Prune
from raydeblend.deblend.preparation import Prepared, batch_rows
from raydeblend.deblend.sources import Sources
from raydeblend.deblend.srgan.config import PeakConfig, SegmentConfig, SrganDeblenderConfig
from raydeblend.deblend.srgan.confirm import confirm_sources
from raydeblend.deblend.srgan.resolutions import fine_psf, to_coarse
from raydeblend.detect.peaks import find_peaks, refine_peaks
from raydeblend.detect.sharp_peaks import PeakRule, find_sharp_peaks
from raydeblend.errors import ConfigError
from raydeblend.fit.amplitudes import fit_amplitudes
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.instruments import COUNTERPARTS, FACTOR
from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srgan import unstretch
from raydeblend.networks.weights import Card
from raydeblend.tile import FloatArray


@dataclass(frozen=True)
class SharpView:
    """What the network sees in n stamps.

    Attributes
    ----------
    sharp
        ``(n, 3 y, 3 x)`` the image in the reference band, in sky sigmas of the coarse pixels.
    sources
        ``(n, 3 y, 3 x)`` the map of sources (`raydeblend.networks.srgan.source_target`); None
        of a network without one.
    """

    sharp: FloatArray
    sources: FloatArray | None


@dataclass(frozen=True)
class SrganDeblender(NetworkDeblender):
    """The super-resolution network and a fit; implements `raydeblend.tile.Deblender`.

    The network works in pixels: it was trained on seeing of 3.1 to 4.4 pixels (FWHM).  `bands` are
    the HST bands of its channels.
    """

    shipped: ClassVar[str] = "srgan"
    networks: ClassVar[tuple[str, ...]] = ("srgan", "srgan-multiband")

    name: str = "srgan"
    config: SrganDeblenderConfig = field(default_factory=SrganDeblenderConfig)

    @classmethod
    def load(
        cls,
        device: str | None = None,
        weights: str | None = None,
        config: SrganDeblenderConfig | None = None,
    ) -> Self:
        """Load as others; the hash is of its configuration and of the fit's too."""
        loaded = super().load(device, weights)
        if config is not None:
            loaded = replace(loaded, config=config)
        hashes = (loaded.weights_hash, loaded._fitter().weights_hash, hash_of(loaded.config))
        return replace(loaded, weights_hash="-".join(hashes))

    @classmethod
    def check_weights(cls, path: str, network: nn.Module, card: Card) -> None:
        """Refuse weights of another network."""
        if card.network not in cls.networks:
            raise ConfigError(f"{path} is a {card.network}, not an {cls.shipped}")

    def channels(self, bands: Sequence[str] | None, n_bands: int) -> list[int]:
        """Return which band of the stamps stands for each of the network's."""
        if bands is not None and tuple(bands) == self.bands:
            return list(range(len(self.bands)))
        known = [COUNTERPARTS[band] for band in self.bands]
        if bands is None and len(known) == 1:
            # One band, or the reddest of g r i.
            return [min(2, n_bands - 1)]
        return choose_bands(bands, n_bands, known)

    def find(self, batch: Batch) -> list[Sources]:
        """Find sources in the sharpened stamps and fit them to the original ones.

        Where a band has holes, the network is shown the models of a first fit there.
        """
        rows = np.flatnonzero(batch.stamps.holes.any(axis=(1, 2, 3)))
        if len(rows):
            stamps, first = batch.stamps, self._fit(batch.take(rows))
            light = stamps.image.copy()
            models = np.stack([own.models.sum(axis=0) for own in first])
            light[rows] = models / stamps.sigma[rows]
            filled = np.where(stamps.holes, light, stamps.image)
            batch = replace(batch, stamps=replace(stamps, image=filled))
        return self._fit(batch)

    def _fit(self, batch: Batch) -> list[Sources]:
        call = batch.call
        if call.psf is None or call.pixel_scale is None:
            return super().find(batch)
        view = self.look(batch.stamps, call.bands)
        # The pixels decide whether what the network suspects is there.
        peaks = self.config.peaks
        xy = self.positions(
            batch.stamps, call.bands, view, peaks.candidate_rule, peaks.candidate_height
        )
        hints = self.positions(batch.stamps, call.bands, view, peaks.hint_rule, peaks.hint_height)
        found = self._fitter(hints).find(
            call.images, call.variance, call.mask, call.psf, call.pixel_scale, xy=xy
        )
        return self.rate(view, found)

    def separate(self, batch: Batch) -> list[Sources]:
        """Fit an amplitude in each band to the blurred segment of each position."""
        view = self.look(batch.stamps, batch.call.bands)
        positions = self.positions(batch.stamps, batch.call.bands, view)
        stamps = batch.stamps
        pixels = zip(stamps.image, stamps.weight, stamps.sigma, strict=True)
        found = [
            fit_segments(*own, sharp, xy, self.config.segments)
            for own, sharp, xy in zip(pixels, view.sharp, positions, strict=True)
        ]
        return self.rate(view, found)

    def rate(self, view: SharpView, found: list[Sources]) -> list[Sources]:
        """Return the sources of each stamp with what the network's view tells of them: nothing."""
        return found

    def sharpen(self, stamps: Prepared, bands: Sequence[str] | None) -> FloatArray:
        """Return ``(n, 3 y, 3 x)`` the network's image in its reference band, in sky sigmas."""
        return self.look(stamps, bands).sharp

    @torch.inference_mode()
    def look(self, stamps: Prepared, bands: Sequence[str] | None) -> SharpView:
        """Return what the network sees in the stamps."""
        chosen = self.channels(bands, stamps.image.shape[1])
        sharp, sources = [], []
        for rows in batch_rows(stamps, self.device.type == "cpu"):
            image = torch.from_numpy(network_image(stamps.take(rows), chosen)).to(self.device)
            output = forward(self.network, self.scaling.apply(image)[0]).cpu()
            sharp.append(unstretch(output[:, self._reference], self.scaling.softening))
            sources.append(torch.sigmoid(output[:, len(self.bands) :]))
        found = torch.cat(sources).numpy()
        return SharpView(torch.cat(sharp).numpy(), found[:, 0] if found.shape[1] else None)

    def positions(
        self,
        stamps: Prepared,
        bands: Sequence[str] | None,
        view: SharpView,
        rule: PeakRule | None = None,
        height: float | None = None,
    ) -> list[NDArray[np.float64]]:
        """Return for each stamp ``(k, 2)`` positions (x, y) in its pixels, the best first.

        By the map of sources, down to `height`, where the network has one, else by the peaks of
        the sharp image that follow `rule`; by default as for sources that no fit confirms.
        """
        config = self.config.peaks
        rule = config.source_rule if rule is None else rule
        height = config.source_height if height is None else height
        unusable = stamps.weight.max(axis=1) == 0
        masks = unusable.repeat(FACTOR, axis=1).repeat(FACTOR, axis=2)
        if view.sources is None:
            pairs = zip(view.sharp, masks, strict=True)
            fine = [sharp_peaks(*pair, rule, config.noise) for pair in pairs]
        else:
            pairs = zip(view.sources, masks, strict=True)
            fine = [source_peaks(*pair, height, config.prominence) for pair in pairs]
        low = stamps.image[:, self.channels(bands, stamps.image.shape[1])[self._reference]]
        return [self._significant(*pair) for pair in zip(fine, low, strict=True)]

    def _significant(self, fine: NDArray[np.float64], low: FloatArray) -> NDArray[np.float64]:
        """Return those of ``(k, 2)`` fine positions with light in the stamp, in its pixels."""
        peaks, seeing = self.config.peaks, self.config.segments.seeing
        xy = to_coarse(fine)
        smooth = gaussian_filter(low, seeing) * (2 * np.sqrt(np.pi) * seeing)
        column, row = np.clip(xy.round().astype(int), 0, np.array(low.shape[::-1]) - 1).T
        return np.asarray(xy[smooth[row, column] >= peaks.low_significance][: peaks.max_sources])

    def _fitter(self, hints: Sequence[NDArray[np.float64]] | None = None) -> JointDeblender:
        """Return the fit at the positions that the network finds."""
        priors = BulgeDiskPriors(given_position_sigma=self.config.position_scatter)
        prune: Prune = partial(confirm_sources, config=self.config.confirm, hints=hints)
        return JointDeblender(self.device, priors, drop_given=True, prune=prune)

    @property
    def _reference(self) -> int:
        return reference_band(self.bands)


def reference_band(bands: Sequence[str]) -> int:
    """Return the index of the band in which peaks are sought: F775W, else F814W, else the first."""
    wanted = [band for band in ("F775W", "F814W") if band in bands]
    return list(bands).index(wanted[0]) if wanted else 0


def sharpen(network: nn.Module, image: Tensor, scaling: Scaling) -> Tensor:
    """Return ``(n, bands, 3 y, 3 x)`` of ``(n, bands, y, x)``, both in sky sigmas of a pixel."""
    channels, _ = scaling.apply(image)
    sharp = forward(network, channels)[:, : image.shape[1]]
    return unstretch(sharp, scaling.softening)


def sharp_peaks(
    sharp: NDArray[np.floating],
    mask: NDArray[np.bool_] | None = None,
    rule: PeakRule = PeakConfig.source_rule,
    noise: float = PeakConfig.noise,
) -> NDArray[np.float64]:
    """Return ``(k, 2)`` peaks (x, y) of an image ``(y, x)`` at HST's resolution, in its pixels."""
    return find_sharp_peaks(sharp, fine_psf(), noise, rule, mask).xy


def source_peaks(
    sources: NDArray[np.floating],
    mask: NDArray[np.bool_] | None = None,
    height: float = PeakConfig.source_height,
    prominence: float = PeakConfig.prominence,
) -> NDArray[np.float64]:
    """Return ``(k, 2)`` peaks (x, y) of a map of sources ``(y, x)``, in its pixels.

    At least of `height`, and of `prominence` over the saddle to a higher one.
    """
    usable = np.ones(sources.shape, dtype=bool) if mask is None else ~mask
    lit = usable & (sources > 0.1 * height)
    peaks = find_peaks(np.asarray(sources, dtype=np.float32), lit, prominence, 0.0)
    return refine_peaks(sources, peaks[sources[tuple(peaks.T)] >= height])


def fit_segments(
    image: FloatArray,
    weight: FloatArray,
    sigma: FloatArray,
    sharp: FloatArray,
    xy: NDArray[np.float64],
    config: SegmentConfig,
) -> Sources:
    """Fit an amplitude in each band to the segment about each position ``(k, 2)`` of one stamp.

    `image` is ``(bands, y, x)`` in units of the noise `sigma`, `sharp` ``(3 y, 3 x)``.
    """
    templates = np.repeat(segment_templates(sharp, xy, config)[:, None], len(image), axis=1)
    amplitude = fit_amplitudes(image[None], weight[None], templates[None])[0]
    models = (templates * amplitude[..., None, None]).astype(np.float32)
    order = np.argsort(-models.sum(axis=(1, 2, 3)), kind="stable")
    return Sources.unrated(models[order] * sigma, xy[order].astype(np.float32))


def segment_templates(
    sharp: FloatArray, xy: NDArray[np.float64], config: SegmentConfig
) -> FloatArray:
    """Return ``(k, y, x)``: the light of a sharp image nearest to each position, blurred, rebinned.

    `sharp` is ``(3 y, 3 x)``, `xy` in coarse pixels.
    """
    height, width = sharp.shape[0] // FACTOR, sharp.shape[1] // FACTOR
    markers = np.zeros(sharp.shape, dtype=np.int32)
    fine = np.clip((xy * FACTOR + (FACTOR - 1) / 2).round().astype(int), 0, None)
    columns = np.minimum(fine[:, 0], sharp.shape[1] - 1)
    rows = np.minimum(fine[:, 1], sharp.shape[0] - 1)
    markers[rows, columns] = np.arange(1, len(xy) + 1)
    segments = watershed(-sharp, markers, mask=(sharp > config.floor / FACTOR**2) | (markers > 0))
    shapes = np.zeros((len(xy), height, width), dtype=np.float32)
    for k in range(len(xy)):
        own = np.where(segments == k + 1, np.maximum(sharp, 1e-6), 0)
        blurred = gaussian_filter(own, config.seeing * FACTOR)
        shapes[k] = blurred.reshape(height, FACTOR, width, FACTOR).sum(axis=(1, 3))
    return shapes
