"""What a catalog run is before it begins; the run itself is `survey`."""

from __future__ import annotations

from dataclasses import asdict
from importlib import metadata

from raydeblend.checks.config import CHECKS
from raydeblend.config import CatalogConfig
from raydeblend.deblend.configuration import hash_of
from raydeblend.deblend.familiar import STAMPS
from raydeblend.deblend.holes import HOLES
from raydeblend.deblend.logistic import LOGISTIC
from raydeblend.deblend.preparation import PREPARATION
from raydeblend.deblend.sep import SEP
from raydeblend.deblend.sources import SOURCES
from raydeblend.detect.footprints import DetectConfig
from raydeblend.detect.given import GIVEN
from raydeblend.detect.noise_correlation import NOISE
from raydeblend.detect.sky_config import SKY
from raydeblend.fit.config import PROFILE_FIT
from raydeblend.fit.single_priors import DEFAULT_PRIORS
from raydeblend.fits import TileFailure
from raydeblend.inject.config import INJECTION
from raydeblend.measure.config import DEFAULT_CONFIG
from raydeblend.measure.plausible import PLAUSIBLE
from raydeblend.measure.point_sources import POINTS
from raydeblend.pipeline.bad import BAD
from raydeblend.pipeline.config import FOOTPRINTS
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.entries import LedgerEntry, write_entry
from raydeblend.pipeline.ledger import Run, describe_plan
from raydeblend.pipeline.opinion import second_opinion
from raydeblend.pipeline.plan import Plan
from raydeblend.pipeline.share import WHOLE, Share
from raydeblend.pipeline.stars import STARS

TUNED = (
    SKY,
    NOISE,
    DetectConfig(),
    DEFAULT_CONFIG,
    DEFAULT_PRIORS,
    PROFILE_FIT,
    PLAUSIBLE,
    INJECTION,
    CHECKS,
    GIVEN,
    POINTS,
    SEP,
    FOOTPRINTS,
    HOLES,
    PREPARATION,
    SOURCES,
    STAMPS,
    LOGISTIC,
    STARS,
    BAD,
)
"""Tuned parameters of all that is not one deblender's own; those are in its hash."""

VERSIONED = (
    "raydeblend",
    "numpy",
    "scipy",
    "numba",
    "astropy",
    "sep",
    "torch",
    "ngmix",
    "ray",
    "pyarrow",
)


def describe(input: str, config: CatalogConfig, plan: Plan, share: Share = WHOLE) -> Run:
    """Return the description of a run, with everything that can change its catalog."""
    part = {} if share == WHOLE else {"part": str(share)}
    return Run(
        input=input,
        config=asdict(config),
        config_hash=f"{config.hash}-{hash_of(*TUNED)}",
        weights={config.deblender: _weights_hash(config)},
        versions=_versions(),
        plan=describe_plan(plan) | part,
    )


def _weights_hash(config: CatalogConfig) -> str:
    """Return the hash of what the deblender is, and that of the second opinion."""
    other = second_opinion(config)
    hashes = [DeblendCell(config).weights_hash, *([other.weights_hash] if other else [])]
    return "-".join(hashes)


def _versions() -> dict[str, str]:
    installed = {name for found in metadata.packages_distributions().values() for name in found}
    return {name: metadata.version(name) for name in VERSIONED if name in installed}


def fail_tile(out: str, tile: TileFailure) -> LedgerEntry:
    """Write the ledger entry of a tile that could not be planned."""
    entry = LedgerEntry(tile=tile.name, cell="", status="failed", reason=tile.reason)
    write_entry(out, entry)
    return entry
