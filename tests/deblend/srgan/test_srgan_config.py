"""What was tuned in the srgan deblender: its hash decides what a run may be resumed with."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from raydeblend.config import CatalogConfig
from raydeblend.deblend.configuration import hash_of
from raydeblend.deblend.srgan.config import SrganDeblenderConfig
from raydeblend.deblend.srgan.deblender import SrganDeblender
from raydeblend.pipeline.deblending import DeblendCell


def changed(config: Any) -> Iterator[Any]:
    """Yield the configuration with another value of each of its numbers in turn."""
    for part in fields(config):
        value = getattr(config, part.name)
        others = changed(value) if is_dataclass(value) else [2 * value]
        for other in others:
            yield replace(config, **{part.name: other})


def test_every_number_has_a_hash_of_its_own() -> None:
    config = SrganDeblenderConfig()
    others = list(changed(config))
    assert len(others) > 35
    assert len({hash_of(each) for each in (config, *others)}) == len(others) + 1


def test_a_run_of_another_configuration_is_not_resumed() -> None:
    config = SrganDeblenderConfig()
    other = replace(config, confirm=replace(config.confirm, min_gain=12.0))
    first, same, different = (
        DeblendCell(CatalogConfig(("g",)), SrganDeblender.load("cpu", config=each)).weights_hash
        for each in (config, SrganDeblenderConfig(), other)
    )
    assert first == same != different
