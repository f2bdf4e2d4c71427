"""What was tuned in the photometry of deblended sources."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorParts:
    """What a flux may be wrong by beside the noise of the sky, in quadrature.

    Attributes
    ----------
    neighbors
        Part of the neighbors' flux under the source, which its models share out wrongly.
    own
        Part of its own flux, which another profile than the fitted one has elsewhere.
    own_in_blend
        The same with other sources in its footprint, whose wings are no better known.
    """

    neighbors: float
    own: float = 0.0
    own_in_blend: float = 0.0


@dataclass(frozen=True)
class DeblenderErrors:
    """The parts for fluxes of the profile ``bdf``, fitted jointly, by whose models these are."""

    deblenders: tuple[str, ...]
    parts: ErrorParts


@dataclass(frozen=True)
class MeasureConfig:
    """What the interface decides, whatever the engine; `fit.single_priors` has the priors.

    The parts of the neighbors' flux under a source by which its flux may be wrong are measured by
    ``python -m benchmarks.photometry --calibrate`` with the models of rdn, on simulated blends that
    are no test set; those of each deblender by ``python -m benchmarks.studies.deblender_errors``
    on simulated tiles of HSC's and LSST's depth.

    Attributes
    ----------
    single_noise
        Of sources fitted one by one.
    joint_noise, joint_bdf_noise
        Of sources fitted together, with the profile ``bdf`` and with any other.
    template_noise
        Of the deblended models as templates.
    by_deblender
        Where these are known, in place of `joint_bdf_noise`.
    max_values
        Sources times bands times pixels of a blend that is fitted together, which takes 2 GB then.
    """

    single_noise: float = 0.42
    joint_noise: float = 0.17
    joint_bdf_noise: float = 0.06
    template_noise: float = 0.41
    by_deblender: tuple[DeblenderErrors, ...] = (
        DeblenderErrors(("rdn", "rdn-joint"), ErrorParts(0.06, 0.0045, 0.01)),
        DeblenderErrors(("branched",), ErrorParts(0.17, 0.0045, 0.0105)),
        DeblenderErrors(("vae",), ErrorParts(0.2, 0.005, 0.009)),
        DeblenderErrors(("sep",), ErrorParts(0.02, 0.011, 0.029)),
    )
    max_values: int = 2**23


DEFAULT_CONFIG = MeasureConfig()
