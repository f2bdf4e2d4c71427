"""What was tuned in the photometry: each number is in the hash of a run."""

from dataclasses import fields, replace

from raydeblend.config import CatalogConfig
from raydeblend.deblend.configuration import hash_of
from raydeblend.fit.single_priors import Priors
from raydeblend.measure.config import MeasureConfig
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.run import describe


def test_every_number_has_a_hash_of_its_own() -> None:
    for own in (MeasureConfig(), Priors()):
        others = [replace(own, **{f.name: 2 * getattr(own, f.name)}) for f in fields(own)]
        assert len({hash_of(each) for each in (own, *others)}) == len(others) + 1


def test_a_run_carries_the_hash() -> None:
    config = CatalogConfig(("g",), deblender="sep", photometry="mixture")
    run = describe("tiles", config, plan_survey([], 100, 20))
    assert run.config_hash == f"{config.hash}-{hash_of(MeasureConfig(), Priors())}"
