"""What many would write first: sep on the summed image, ngmix on a stamp of each source."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import sep
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend.tile import TileHeader

STAMP = 49
THRESHOLD, MIN_AREA = 1.5, 5
"""SExtractor's defaults, per pixel of the summed image."""


@dataclass(frozen=True)
class PlainRun:
    """How many sources were found, how many have a fit, and the CPU seconds of the two steps."""

    found: int
    fitted: int
    detect_s: float
    fit_s: float

    @property
    def rate(self) -> float:
        """Fitted sources per CPU second."""
        return self.fitted / (self.detect_s + self.fit_s)


def run_plain(header: TileHeader) -> PlainRun:
    """Detect and fit the sources of one tile in one process.

    Raises
    ------
    ImportError
        If ngmix is not installed.
    """
    start = time.process_time()
    images, sigmas, psfs = _read(header)
    positions = _detect(images / sigmas[:, None, None])
    middle = time.process_time()
    psfs = [_psf(psf, header.pixel_scale, np.random.RandomState(0)) for psf in psfs]
    fitted = sum(_fit(images, sigmas, psfs, header.pixel_scale, xy) for xy in positions)
    return PlainRun(len(positions), fitted, middle - start, time.process_time() - middle)


def _read(header: TileHeader) -> tuple[NDArray[np.float64], NDArray[np.float64], list]:
    images, sigmas, psfs = [], [], []
    for file in header.files:
        with fits.open(file.image) as hdus:
            image = np.where(hdus["MASK"].data == 0, hdus["IMAGE"].data, 0).astype(float)
            sigmas.append(float(np.sqrt(np.median(hdus["VARIANCE"].data))))
            psfs.append(hdus["PSF"].data.astype(float))
        images.append(image - sep.Background(image).back())
    return np.array(images), np.array(sigmas), psfs


def _detect(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    found = sep.extract(scaled.sum(0), THRESHOLD, err=np.sqrt(len(scaled)), minarea=MIN_AREA)
    return np.column_stack([found["x"], found["y"]])


def _fit(images, sigmas, psfs, scale: float, xy: NDArray[np.float64]) -> bool:
    """Fit an exponential disk to a stamp in all bands; tell whether it worked."""
    import ngmix

    x, y = np.round(xy).astype(int)
    half = STAMP // 2
    part = np.s_[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
    row, col = xy[1] - part[0].start, xy[0] - part[1].start
    jacobian = ngmix.DiagonalJacobian(row=row, col=col, scale=scale)
    rng = np.random.RandomState(x + 10_000 * y)
    observations = ngmix.MultiBandObsList()
    for image, sigma, psf in zip(images, sigmas, psfs, strict=True):
        stamp = image[part]
        observation = ngmix.Observation(
            stamp, weight=np.full(stamp.shape, sigma**-2), jacobian=jacobian,
            psf=psf,
        )  # fmt: skip
        band = ngmix.ObsList()
        band.append(observation)
        observations.append(band)
    guess = ngmix.guessers.TPSFFluxAndPriorGuesser(rng=rng, T=0.3, prior=_prior(rng, len(images)))
    runner = ngmix.runners.Runner(
        ngmix.fitting.Fitter("exp", prior=_prior(rng, len(images))), guess, ntry=2
    )
    try:
        return runner.go(observations)["flags"] == 0
    except (ngmix.gexceptions.GMixRangeError, ngmix.gexceptions.BootGalFailure):
        return False


def _psf(psf: NDArray[np.float64], scale: float, rng: np.random.RandomState):
    """Return the PSF's observation with the three Gaussians that ngmix fits to it."""
    import ngmix

    center = (len(psf) - 1) / 2
    jacobian = ngmix.DiagonalJacobian(row=center, col=center, scale=scale)
    observation = ngmix.Observation(psf, weight=np.full(psf.shape, 1e8), jacobian=jacobian)
    fitter = ngmix.fitting.CoellipFitter(ngauss=3)
    guess = ngmix.guessers.CoellipPSFGuesser(rng=rng, ngauss=3)
    ngmix.runners.PSFRunner(fitter, guess, ntry=20).go(observation)
    if not observation.has_gmix():  # moments of the stamp
        fwhm = 2 * scale * np.sqrt(1 / (psf.max() / psf.sum()) / np.pi * np.log(2))
        observation.set_gmix(
            ngmix.GMixModel([0, 0, 0, 0, ngmix.moments.fwhm_to_T(fwhm), 1], "gauss")
        )
    return observation


def _prior(rng: np.random.RandomState, bands: int):
    import ngmix

    flux = ngmix.priors.FlatPrior(-1e6, 1e9, rng=rng)
    return ngmix.joint_prior.PriorSimpleSep(
        ngmix.priors.CenPrior(0, 0, 0.17, 0.17, rng=rng),
        ngmix.priors.GPriorBA(0.3, rng=rng),
        ngmix.priors.FlatPrior(-1, 100, rng=rng),
        [flux] * bands,
    )
