"""The tuned parameters of the joint deblender.

They were chosen on simulated blends that no evaluation uses; `docs/joint.md` says on which, and
what other values give.  A PSF width is the standard deviation of the Gaussian that stands for the
PSF, and sigma the noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class PixelConfig:
    """Which pixels are fitted, and how much they count.

    Attributes
    ----------
    lit_significance
        Sigma of the smoothed image from which a pixel holds light.
    lit_margin
        PSF widths about such pixels in which pixels are fitted one by one.
    joined_significance
        Sigma of the smoothed image below which squares of pixels are one sample each.
    joined_side
        Side of those squares in pixels.
    min_joined_psf_width
        Pixels from which a PSF is broad enough for squares.
    max_weight_ratio
        Largest ratio of the weights in a square, whose mean then lies at its center.
    min_shown_fraction
        Least part of a source's squared light that a band must show of what any band shows, to
        tell its flux; at the edge of a band's coverage that is a twentieth of a point's light.
    model_error
        Part of a pixel's light that its variance gets as error: no galaxy is quite bulge + disk.
    """

    lit_significance: float = 2.5
    lit_margin: float = 3.0
    joined_significance: float = 4.0
    joined_side: int = 2
    min_joined_psf_width: float = 1.4
    max_weight_ratio: float = 1.2
    min_shown_fraction: float = 0.01
    model_error: float = 0.003


@dataclass(frozen=True)
class StarConfig:
    """Which sources are narrower than the given PSF, and show the right one; see `star_psf`.

    Attributes
    ----------
    min_significance
        Sigma of the smoothed image, all bands together, from which a peak is looked at.
    min_snr
        Signal to noise of a source in a band that shows the PSF of that band.
    radius
        PSF widths about its peak within which it is fitted.
    most_width, least_width
        Of it over the PSF's: a source that is wider is no star narrower than the PSF, and what is
        narrower no star.
    """

    min_significance: float = 200.0
    min_snr: float = 100.0
    radius: float = 2.5
    most_width: float = 0.99
    least_width: float = 0.6


@dataclass(frozen=True)
class BlockConfig:
    """How a blend of many sources is fitted.

    Attributes
    ----------
    max_joint_sources
        Largest number of sources fitted at once; more are fitted in turn, in blocks of that size.
    sweeps
        Largest number of times that all sources, or those that changed, are fitted again.
    rough_sources, rough_sweeps
        The same two before more sources are sought: what is left then shows where, and all that
        changes or has not settled is fitted again in the end.
    hasty_sweeps, rough_hasty_sweeps
        The first of those sweeps in which a block only has the steps of a trial: what its
        neighbors are is not settled yet.
    settled
        Fall of the objective by which a block that is fitted again is settled.
    min_light
        Sigma of its models in a pixel from which a block is fitted there.
    core_radius
        PSF widths about its sources within which it is fitted in any case.
    trial_sources
        Most sources that a trial moves: those that are new or in doubt, and the nearest.
    faintest_drawn
        Sigma of its light in a pixel below which a source is not drawn.
    """

    max_joint_sources: int = 6
    sweeps: int = 6
    rough_sources: int = 4
    rough_sweeps: int = 3
    hasty_sweeps: int = 2
    rough_hasty_sweeps: int = 3
    settled: float = 0.5
    min_light: float = 0.05
    core_radius: float = 4.0
    trial_sources: int = 3
    faintest_drawn: float = 0.003

    @property
    def rough(self) -> BlockConfig:
        """The same with the blocks and sweeps of the time before more sources are sought."""
        return replace(
            self,
            max_joint_sources=self.rough_sources,
            sweeps=self.rough_sweeps,
            hasty_sweeps=self.rough_hasty_sweeps,
        )


@dataclass(frozen=True)
class LimitConfig:
    """Where the work on a blend ends.

    Attributes
    ----------
    most_work
        As `BlendFit.work` counts it: half a minute or more of a busy core.
    work_per_source
        The same for each source of a crowd, where that is more.
    most_values
        Sources times bands times pixels, which bounds the memory of the models.
    seconds
        Wall time for each stamp of a call, far above what `most_work` takes on usual machines.
    """

    most_work: float = 3e7
    work_per_source: float = 5e6
    most_values: int = 2**27
    seconds: float = 600.0


@dataclass(frozen=True)
class LargeConfig:
    """Which galaxies are tried from the size that they are seen to have.

    Attributes
    ----------
    min_brightness
        Sigma of a pixel of all bands from which it shows the galaxy.
    min_radius
        PSF widths that the half-light radius of what is seen must have.
    most_growth
        Largest half-light radius of a disk over the seen one, or over `min_radius`, of a fit that
        counts.
    """

    min_brightness: float = 1.0
    min_radius: float = 3.0
    most_growth: float = 3.0


@dataclass(frozen=True)
class SteepConfig:
    """Which galaxies are tried as one steep profile.

    Attributes
    ----------
    min_bulge_fraction
        Of the light in the bulge, from which one is.
    min_snr
        Flux over error of all bands that it must have.
    """

    min_bulge_fraction: float = 0.4
    min_snr: float = 30.0


@dataclass(frozen=True)
class SearchConfig:
    """What is tried as another source, and what it must gain.

    Attributes
    ----------
    rounds
        How often the residual is looked at again.
    extra_sources
        Sources that a blend may have beyond twice its peaks.
    min_significance
        Sigma of the smoothed residual from which a peak is tried.
    candidate_radius
        PSF widths about a candidate within which it is first fitted alone.
    model_error
        Part of a model's light in a pixel that may be wrong without another source: arms, bars.
    smooth_error
        The same of the sum over a PSF: what the mixtures for profiles and PSF miss.
    min_gain
        What a source is worth in ln posterior: one that is there stays for it, and one more must
        gain at least as much.  Half of five sigma squared, as detection asks of one that stands
        alone: with less, noise in the skirts of bright galaxies becomes sources.
    gain_per_parameter
        What one more must gain for each of its parameters, if that is more: noise alone gains a
        half, and Akaike (1974) asks for one.
    added_error
        Part of the light under a new source that may be wrong.  Half the squared significance of
        that part must be gained in addition to `min_gain`.
    underlying_radius
        PSF widths about a source in which light is under it.
    rescue_fraction
        Part of the least gain from which the best candidate is tried though it gains too little
        alone: in the joint fit others may make way for it.
    """

    rounds: int = 4
    extra_sources: int = 2
    min_significance: float = 3.5
    candidate_radius: float = 5.0
    model_error: float = 0.03
    smooth_error: float = 0.005
    min_gain: float = 12.5
    gain_per_parameter: float = 2 / 3
    added_error: float = 0.02
    underlying_radius: float = 1.5
    rescue_fraction: float = 0.3


@dataclass(frozen=True)
class SplitConfig:
    """Which sources are tried as two.

    Attributes
    ----------
    max_splits
        Sources that are tried in one look, those that promise most; in a crowd all that promise
        enough are.
    min_score_fraction
        Part of the least gain that another source at their side must promise, to first order.
    min_offset, max_offset
        Pixels from the center of a source to the centers of its halves: it is not tried below the
        least, and cut at the most.
    min_snr
        Flux over error of all bands that a source must have: each half must be one.
    min_axis_ratio
        Halves are narrower than the whole by its axis ratio, of which at least this.
    reach, step
        PSF widths about a source within which others are asked for, and how far apart.
    width
        That of a small galaxy over the PSF's.
    """

    max_splits: int = 2
    min_score_fraction: float = 0.25
    min_offset: float = 1.0
    max_offset: float = 6.0
    min_snr: float = 8.0
    min_axis_ratio: float = 0.3
    reach: float = 2.0
    step: float = 0.6
    width: float = 1.2


@dataclass(frozen=True)
class PruneConfig:
    """Which sources are tried without, and which narrower.

    Attributes
    ----------
    max_doubtful_snr
        Flux over error of all bands up to which a source may be none.
    min_separation
        PSF widths below which two sources are one galaxy of another profile than the model's.
    least_significance
        Sigma by which a wide source must stand out where peaks are found: what detection asks for
        less its own scatter.
    """

    max_doubtful_snr: float = 10.0
    min_separation: float = 0.5
    least_significance: float = 4.0


@dataclass(frozen=True)
class PhotometryConfig:
    """Contributions to the errors of fluxes, in quadrature with the curvature.

    Calibrated on simulated pairs and blends that are no test set, and on 2,400 isolated galaxies of
    the realistic population, i = 18 to 26 (the training split).  In a blend, how many sources
    there are and where the fit was to begin was chosen on the same pixels; and no galaxy is quite
    bulge + disk.

    Attributes
    ----------
    index_width
        `BulgeDiskPriors.index_width` of the last fit, which gives the fluxes: about that of COSMOS
        galaxies of i = 23.
    neighbor_fraction
        Of the neighbors' flux under a source.
    max_neighbor_errors
        Most of that flux that counts, in errors of the source.
    own_fraction
        Of the source's own flux.
    faint_fraction, faint_sigma
        Of the part f of its light that lies in pixels where it is below so many sigma of all bands
        together, times 1 − f and its Sérsic index: what a profile adds there is hardly seen, and
        the sky takes a part of it, of steep galaxies far more than of disks.  A galaxy that is
        faint all over is held by its prior instead.
    """

    index_width: float = 0.9
    neighbor_fraction: float = 0.3
    max_neighbor_errors: float = 2.0
    own_fraction: float = 0.002
    faint_fraction: float = 0.17
    faint_sigma: float = 0.5


@dataclass(frozen=True)
class ShearConfig:
    """The response of a shape to shear, beyond the curvature; see `shear`.

    Attributes
    ----------
    by_size_variance
        What the variance of ln r50 takes off ln of the response: calibrated on 700 isolated
        galaxies of i = 22.5 to 24.6 of the realistic population, see `docs/shear.md`.
    """

    by_size_variance: float = 1.8


@dataclass(frozen=True)
class StructureConfig:
    """Which sources are parts of a brighter one; see `structure`.

    Attributes
    ----------
    min_probability
        From which a source is one.
    max_contrast
        To its host above which it is none in any case.
    attached_contrast
        Up to which it counts as attached to its host.
    color_error
        Part of a flux by which colors within a galaxy differ.
    flux_error
        Part of the light of the parts that may be a neighbor's, or be counted twice.
    most_curvature
        Of a galaxy with parts, most of its error from the curvature, over that which it would have
        were its shape given.
    """

    min_probability: float = 0.62
    max_contrast: float = 6.0
    attached_contrast: float = 3.0
    color_error: float = 0.05
    flux_error: float = 0.03
    most_curvature: float = 1.7


@dataclass(frozen=True)
class BodyConfig:
    """Which galaxies are so large that their body is fitted first, and what may lie on it.

    Attributes
    ----------
    min_radius
        Half-light radius in PSF widths of a large galaxy.
    most_radius
        Largest half-light radius of its whole light over the radius of a circle as large as its
        broad light: what is larger leans on the light of several galaxies.
    square
        Side in pixels of the squares in which a body is fitted.
    center_radius
        PSF widths about its center in which pixels are fitted one by one.
    median_side
        Side in PSF widths of the square whose median is broad light.
    min_brightness
        Sigma of a pixel of all bands from which broad light may be a body.
    separate_part
        Of the brightness of its broad light: where that of another galaxy is as bright, and the
        light between them is not, each has its own region.
    standing_out, standing_out_sigma
        Pixels brighter than that multiple of the broad light and that many sigma are left out of
        the first fit.
    min_significance
        Sigma of the smoothed body from which its structure is measured.
    rings
        Levels of brightness in which that is done.
    min_roughness
        Part of the light within a PSF that is structure, where it is brightest, of a body that is
        worth it: smoother ones are fitted with their neighbors at once.
    neighbor_part, most_neighbors
        With more peaks that have such a part of its light, as points, it is no body, but the middle
        of a cluster.
    most_uneven
        Largest light of a body in addition to its profile, over that of the profile.
    most_others
        Light of others in a pixel, over that of the profile, up to which the pixel shows what a
        body has in addition to its profile.
    looks
        How often what lies on a body is looked for, each time without what is known by then.
    most
        Bodies of a stamp.
    """

    min_radius: float = 6.0
    most_radius: float = 1.5
    square: int = 4
    center_radius: float = 4.0
    median_side: float = 10.0
    min_brightness: float = 2.0
    separate_part: float = 0.1
    standing_out: float = 1.5
    standing_out_sigma: float = 5.0
    min_significance: float = 20.0
    rings: int = 4
    min_roughness: float = 0.05
    neighbor_part: float = 0.01
    most_neighbors: int = 5
    most_uneven: float = 1.0
    most_others: float = 0.1
    looks: int = 2
    most: int = 3


@dataclass(frozen=True)
class QualityConfig:
    """Reduced χ² up to which the quality of a deblend is ``high`` or ``medium``."""

    high_chi2: float = 1.2
    medium_chi2: float = 2.0


@dataclass(frozen=True)
class JointConfig:
    """The configuration of a `JointDeblender`.

    Its hash is in every ledger entry and in ``run.json`` (`JointDeblender.weights_hash`), so that
    ``--resume`` refuses a run that was begun with other values.
    """

    pixels: PixelConfig = PixelConfig()
    stars: StarConfig = StarConfig()
    blocks: BlockConfig = BlockConfig()
    limits: LimitConfig = LimitConfig()
    large: LargeConfig = LargeConfig()
    steep: SteepConfig = SteepConfig()
    search: SearchConfig = SearchConfig()
    splits: SplitConfig = SplitConfig()
    prune: PruneConfig = PruneConfig()
    photometry: PhotometryConfig = PhotometryConfig()
    shear: ShearConfig = ShearConfig()
    structure: StructureConfig = StructureConfig()
    bodies: BodyConfig = BodyConfig()
    quality: QualityConfig = QualityConfig()
