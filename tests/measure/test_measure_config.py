"""What was tuned in detection and photometry: each number is in the hash of a run."""

from dataclasses import fields, replace

import pytest

from raydeblend.checks.config import CheckConfig
from raydeblend.config import CatalogConfig
from raydeblend.deblend.configuration import hash_of
from raydeblend.detect.footprints import DetectConfig
from raydeblend.detect.given import GivenConfig
from raydeblend.detect.noise_correlation import NoiseConfig
from raydeblend.detect.sky_config import SkyConfig
from raydeblend.fit.config import (
    BlendFitConfig,
    FamilyConfig,
    ProfileFitConfig,
    SingleFitConfig,
    StampConfig,
)
from raydeblend.fit.single_priors import Priors
from raydeblend.inject.config import InjectionConfig
from raydeblend.measure.config import MeasureConfig
from raydeblend.measure.plausible import PlausibleConfig
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.run import describe

FITS = {
    "stamps": StampConfig,
    "family": FamilyConfig,
    "single": SingleFitConfig,
    "blend": BlendFitConfig,
}


@pytest.mark.parametrize(
    "kind", [SkyConfig, NoiseConfig, MeasureConfig, Priors, PlausibleConfig, *FITS.values()]
)
def test_every_number_has_a_hash_of_its_own(kind: type) -> None:
    own = kind()
    others = [replace(own, **{f.name: 2 * getattr(own, f.name)}) for f in fields(own)]
    assert len({hash_of(each) for each in (own, *others)}) == len(others) + 1


def test_the_fits_of_profiles_hold_all_of_their_parts() -> None:
    assert ProfileFitConfig() == ProfileFitConfig(**{name: kind() for name, kind in FITS.items()})
    assert {f.name for f in fields(ProfileFitConfig)} == set(FITS)


def test_a_run_carries_the_hash() -> None:
    config = CatalogConfig(("g",), deblender="sep", photometry="mixture")
    run = describe("tiles", config, plan_survey([], 100, 20))
    fits = MeasureConfig(), Priors(), ProfileFitConfig(), PlausibleConfig()
    detection = SkyConfig(), NoiseConfig(), DetectConfig()
    tuned = hash_of(*detection, *fits, InjectionConfig(), CheckConfig(), GivenConfig())
    assert run.config_hash == f"{config.hash}-{tuned}"
