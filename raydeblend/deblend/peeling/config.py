"""What was tuned in the deblenders that peel, besides their networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SecondPassConfig:
    """How galaxies that were left out are recovered, and each is deblended again.

    Attributes
    ----------
    peak_radius
        Pixels, about the seeing, from a peak within which a model can be its.
    min_peak_share
        Part that models near a peak must hold of the light there that others leave; a wisp is no
        model.
    window_radius
        Pixels around a peak without a model that the network is shown.
    margin
        Pixels around a model that the network is shown when it is deblended again.
    min_side
        Least side of what the network is shown, that of the crops that it was trained on.
    sweeps
        How often every galaxy is deblended again.
    max_contamination
        Light of the others under a model that it was not freed of, as a part of its own, from which
        it is deblended again.
    min_cosine
        Between a model and the one before; below it, it is another galaxy's.
    max_worsening
        Squared residual, over that of the first peels, above which these are kept: models of the
        parts of a bright galaxy with structure can drive each other away.
    """

    peak_radius: float = 4.0
    min_peak_share: float = 0.3
    window_radius: float = 8.0
    margin: int = 8
    min_side: int = 48
    sweeps: int = 3
    max_contamination: float = 0.01
    min_cosine: float = 0.5
    max_worsening: float = 1.02


@dataclass(frozen=True)
class CorrectionConfig:
    """How models are corrected where the pixels contradict them.

    Attributes
    ----------
    prior_widths
        Values of s, a part of the model's own light, all as likely beforehand.
    min_snr
        Signal-to-noise ratio below which the pixels could not tell, and a model stays as it is.
    blurs
        Widths in pixels of the Gaussians by which a model is tried broader.
    sweeps
        How often each source is looked at with the others as they have become.
    """

    prior_widths: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    min_snr: float = 30.0
    blurs: tuple[float, ...] = (1.0, 2.0)
    sweeps: int = 2


@dataclass(frozen=True)
class PeelingConfig:
    """How far a blend is peeled, and what happens to the peels.

    Attributes
    ----------
    max_peels
        More sources than this in one stamp end the loop of the RDN with low quality.
    repeats
        The same count this often in a row means that the RDN no longer finds what is there.
    max_passes
        Passes through the branched network, two galaxies each; more in one stamp means low quality.
    model_floor
        Sky sigmas below which a model is zero: the networks' own floor, which thousands of dark
        pixels would add up to some percent of a faint galaxy's flux.
    second_pass, correction
        What follows.
    """

    max_peels: int = 10
    repeats: int = 3
    max_passes: int = 5
    model_floor: float = 0.01
    second_pass: SecondPassConfig = SecondPassConfig()
    correction: CorrectionConfig = CorrectionConfig()


PEELING = PeelingConfig()
