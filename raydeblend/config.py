"""The configuration of a catalog run, validated once."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from raydeblend.errors import ConfigError

# What loads a deblender on a torch device; imported when one is asked for, so that the classical
# one and the command line's help work without loading torch.
DEBLENDER_LOADERS: Mapping[str, str] = {
    "joint": "raydeblend.deblend.joint.deblender:JointDeblender.load",
    "rdn": "raydeblend.deblend.peeling.rdn:RdnDeblender.load",
    "rdn-joint": "raydeblend.deblend.peeling.rdn:RdnDeblender.load_joint",
    "branched": "raydeblend.deblend.peeling.branched:BranchedDeblender.load",
    "vae": "raydeblend.deblend.vae.deblender:VaeDeblender.load",
    "srgan": "raydeblend.deblend.srgan.deblender:SrganDeblender.load",
    "srflow": "raydeblend.deblend.srgan.srflow:SrflowDeblender.load",
    "sep": "raydeblend.deblend.sep:SepDeblender.load",
}
DEBLENDERS = tuple(DEBLENDER_LOADERS)
DEBLENDER_NETWORKS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "rdn": (("rdn", "rdn-multiband"), ("counter",)),
    "rdn-joint": (("rdn-joint",), ("rdn-joint-counter",)),
    "branched": (("branched",),),
    "vae": (("vae-deblend",),),
    "srgan": (("srgan", "srgan-multiband"),),
    "srflow": (("srflow",),),
}
"""The networks of a deblender, the one that gives the models first, each by the names that its
weights may have."""
PHOTOMETRY = ("auto", "ngmix", "mixture", "joint")
BACKGROUNDS = ("auto", "local", "none")
"""As the layout says; the sky around each place is taken off, or it was before the tiles came."""
PRODUCTS = ("models", "residual", "segmentation")
NOISES = ("correlated", "independent")
"""Errors from the noise that is measured on the scale of sources, or from the variance alone."""

FORCED = (("joint", "auto"), ("joint", "joint"))
"""Deblender and photometry that take given positions."""
PLACES = ("weights", "save", "positions", "templates")
"""What decides nothing: where files lie, whose content is known by its hash, and what is kept."""

DEFAULT_SURVEY, AUTO = "HSC", "auto"
IMAGE_PATTERN = "{tile}_{band}.fits"
PSF_PATTERN = "{tile}_{band}_psf.fits"

# A network sees stamps of up to 256 pixels; the border must let it see a whole one of usual size.
MIN_CELL_SIZE = 64
INJECT, MOST_INJECTED = 1.0, 100.0
"""Injected sources per square arcminute: by default few enough to cost less than 5 %; where
there is no room for more they are fewer."""
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class CatalogConfig:
    """Everything that decides what a catalog holds, except the input and the weights.

    The number of workers is not part of it, since the catalog does not depend on it.

    Attributes
    ----------
    bands
        Bands to detect and measure in, in the order of the arrays and columns.
    survey
        Defines the nominal PSFs and the known bands; ``auto`` for the layout's survey, else HSC.
        A user's YAML file is read at once: its text replaces its path, here and in the hash.
    deblender, photometry
        One of `DEBLENDERS`, or a user's own as ``module:name``; one of `PHOTOMETRY`, of which
        ``joint`` is only available with the deblender of that name.
    weights
        A file, the output folder of a training, or a shipped name: networks to use in place of the
        deblender's own.  Not part of the hash, since a run identifies them by their content.
    deblend_singles
        Whether footprints with a single detected peak are deblended too, since the deblender may
        recognize a blend that the peaks do not show.
    cell_size, border
        Largest side of a cell's inner region and the overlap read around it, in pixels.
    image_pattern, psf_pattern
        File names under the input, with ``{tile}`` and ``{band}``.
    manifest
        A Parquet or CSV table ``tile, band, image[, psf]`` that replaces the patterns.
    layout
        A shipped layout (`raydeblend.fits.layouts`), a user's own as FILE.yaml, or ``auto``:
        recognized from the files, or native with a manifest or the user's own patterns.
    zeropoint
        AB magnitude of one count, for files that lack it.
    bad_planes
        Mask planes that make a pixel unusable; None for the layout's.
    background
        One of `BACKGROUNDS`.
    noise
        One of `NOISES`.
    detect_threshold
        Detection threshold in sigma of the combined and smoothed image.
    suspect_threshold
        Probability of being a blend above which a source is flagged and its footprint deblended
        again at the recovered positions; above 1 for never.
    detect_min_area
        Fewest connected pixels above the threshold.
    second_opinion, second_opinion_fraction
        Another deblender, and the fraction of the footprints with several sources that it deblends
        too, to see where the two differ; None for none.
    seed
        Seed of everything random in the measurement.
    positions, positions_hash, free_positions
        A table (`raydeblend.positions`) of the only positions at which to measure sources; the hash
        of its content, which a run fills in; and whether the fit may move them.  The
        configuration's hash includes that of the content, but not the path of the table.
    templates
        Galaxies of known shape, whose fluxes alone are fitted (`raydeblend.templates`): at the
        positions, or at their own without such.  Their content is part of `positions_hash`.
    inject
        Sources per square arcminute to inject into a copy of each cell, to test their recovery
        (`raydeblend.inject`); 0 for none.
    save
        Products to save with the catalog, of `PRODUCTS`; the catalog does not depend on them.

    Raises
    ------
    ConfigError
        On construction, if a value is not valid.
    """

    bands: tuple[str, ...]
    survey: str = DEFAULT_SURVEY
    deblender: str = "joint"
    photometry: str = "auto"
    deblend_singles: bool = True
    cell_size: int = 1024
    border: int = 96
    image_pattern: str = IMAGE_PATTERN
    psf_pattern: str = PSF_PATTERN
    manifest: str | None = None
    layout: str = AUTO
    zeropoint: float | None = None
    bad_planes: tuple[str, ...] | None = None
    detect_threshold: float = 5.0
    suspect_threshold: float = 0.5
    detect_min_area: int = 5
    background: str = "auto"
    noise: str = "correlated"
    seed: int = 0
    weights: str | None = None
    second_opinion: str | None = None
    second_opinion_fraction: float = 1.0
    inject: float = INJECT
    save: tuple[str, ...] = ()
    positions: str | None = None
    positions_hash: str = ""
    free_positions: bool = False
    templates: str | None = None

    def __post_init__(self) -> None:
        # Imported here, since this module gives the command line's help its defaults.
        from raydeblend.survey import survey_key

        if self.survey != AUTO:
            object.__setattr__(self, "survey", survey_key(self.survey))
        _check_bands(self.bands, self.survey)
        _check_deblending(self)
        _check_input(self)
        _check_numbers(self)

    @property
    def is_forced(self) -> bool:
        """Whether sources are measured at given places, and none is detected."""
        return self.positions is not None or self.templates is not None

    @property
    def hash(self) -> str:
        """Sixteen hex digits that are equal exactly for equal configurations."""
        decides = {n: value for n, value in asdict(self).items() if n not in PLACES}
        text = json.dumps(decides, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_bands(bands: Sequence[str], survey: str) -> None:
    from raydeblend.survey import check_band, get_survey

    if not bands:
        raise ConfigError("no band is given; name at least one, for example g,r,i")
    for band in bands:
        check_band(band) if survey == AUTO else get_survey(survey).band(band)
    if len(set(bands)) < len(bands):
        raise ConfigError(f"a band is given twice in {','.join(bands)}")


def _check_deblending(config: CatalogConfig) -> None:
    """Check the deblender and the photometry, and that the choices are compatible."""
    if ":" not in config.deblender:
        _check_choice("deblender", config.deblender, DEBLENDERS)
    _check_choice("photometry", config.photometry, PHOTOMETRY)
    if config.photometry == "joint" and config.deblender != "joint":
        raise ConfigError(
            f"photometry 'joint' is made by the deblender 'joint', not by {config.deblender!r}; "
            "use auto, ngmix or mixture"
        )
    if config.free_positions and config.positions is None:
        raise ConfigError("--free-positions requires --positions")
    if config.free_positions and config.templates is not None:
        raise ConfigError("--templates are fitted where they are; leave out --free-positions")
    if config.is_forced and config.second_opinion is not None:
        raise ConfigError("given positions have no second opinion; leave out --second-opinion")
    if config.is_forced and (config.deblender, config.photometry) not in FORCED:
        raise ConfigError(
            "given positions are fitted by the deblender joint with its own photometry, not by "
            f"{config.deblender} with {config.photometry}"
        )
    _check_second(config.second_opinion, config.second_opinion_fraction, config.deblender)


def _check_input(config: CatalogConfig) -> None:
    """Check how the input is read and which products are saved."""
    from raydeblend.fits.layouts import find_layout, is_file
    from raydeblend.fits.zero_points import check_zero_point

    if config.layout != AUTO and not is_file(config.layout):
        find_layout(config.layout)
    if config.zeropoint is not None:
        check_zero_point(config.zeropoint)
    _check_choice("background", config.background, BACKGROUNDS)
    _check_choice("noise", config.noise, NOISES)
    for product in config.save:
        _check_choice("product", product, PRODUCTS)


def _check_numbers(config: CatalogConfig) -> None:
    _check_at_least("cell size", config.cell_size, MIN_CELL_SIZE)
    _check_at_least("border", config.border, 0)
    _check_at_least("detection area", config.detect_min_area, 1)
    _check_above_0("threshold of suspected blends", config.suspect_threshold)
    _check_above_0("detection threshold", config.detect_threshold)
    check_seed(config.seed)
    if not 0 <= config.inject <= MOST_INJECTED:
        raise ConfigError(
            f"the density of injected sources must be from 0 to {MOST_INJECTED:g} per square "
            f"arcminute, not {config.inject:g}"
        )


def _check_second(name: str | None, fraction: float, first: str) -> None:
    if name is None:
        return
    if ":" not in name:
        _check_choice("second opinion", name, DEBLENDERS)
    if name == first:
        raise ConfigError(f"a second opinion must come from another deblender than {first!r}")
    if not 0 < fraction <= 1:
        raise ConfigError(
            f"the fraction of a second opinion must be above 0 and at most 1, not {fraction:g}"
        )


def _check_choice(what: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ConfigError(f"unknown {what} {value!r}; valid: {', '.join(valid)}")


def _check_at_least(what: str, value: int, least: int) -> None:
    if not least <= value <= sys.maxsize:
        raise ConfigError(f"the {what} must be at least {least}, not {value}")


def _check_above_0(what: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"the {what} must be above 0 and finite, not {value}")


def check_seed(seed: int) -> None:
    """Check the seed of what is random.

    Raises
    ------
    ConfigError
        If NumPy's, torch's or GalSim's generator could not take it.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(f"the seed must be at least 0 and at most {LARGEST_SEED}, not {seed}")
