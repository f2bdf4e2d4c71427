"""What was tuned in the photometry of deblended sources."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasureConfig:
    """What the interface decides, whatever the engine; `fit.single_priors` has the priors.

    The parts of the neighbors' flux under a source by which its flux may be wrong are measured by
    ``python -m benchmarks.photometry --calibrate`` with the models of rdn, on simulated blends that
    are no test set.

    Attributes
    ----------
    single_noise
        Of sources fitted one by one.
    joint_noise, joint_bdf_noise
        Of sources fitted together, with the profile ``bdf`` and with any other.
    template_noise
        Of the deblended models as templates.
    max_values
        Sources times bands times pixels of a blend that is fitted together, which takes 2 GB then.
    """

    single_noise: float = 0.42
    joint_noise: float = 0.17
    joint_bdf_noise: float = 0.06
    template_noise: float = 0.41
    max_values: int = 2**23


DEFAULT_CONFIG = MeasureConfig()
