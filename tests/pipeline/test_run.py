"""What was tuned is in the hash of a run, number by number."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from raydeblend.config import CatalogConfig
from raydeblend.deblend.configuration import hash_of
from raydeblend.deblend.peeling.config import PEELING
from raydeblend.deblend.unrecognized.config import LOOK
from raydeblend.deblend.vae.config import VAE
from raydeblend.pipeline import run
from raydeblend.pipeline.plan import plan_survey

CONFIG = CatalogConfig(("g",), deblender="sep", photometry="mixture")


def changed(config: Any) -> Iterator[Any]:
    """Yield a configuration with each of its numbers doubled in turn, those of its parts too."""
    for field in fields(config):
        value = getattr(config, field.name)
        for other in changed(value) if is_dataclass(value) else [2 * value]:
            yield replace(config, **{field.name: other})


@pytest.mark.parametrize(
    "tuned", [*run.TUNED, LOOK, PEELING, VAE], ids=lambda tuned: type(tuned).__name__
)
def test_every_number_has_a_hash_of_its_own(tuned: Any) -> None:
    others = list(changed(tuned))
    assert len(others) >= len(fields(tuned))
    assert len({hash_of(each) for each in (tuned, *others)}) == len(others) + 1


def test_a_run_carries_the_hash_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, tuned = plan_survey([], 100, 20), run.TUNED
    found = {run.describe("tiles", CONFIG, plan).config_hash}
    for i, config in enumerate(tuned):
        monkeypatch.setattr(run, "TUNED", (*tuned[:i], next(changed(config)), *tuned[i + 1 :]))
        found.add(run.describe("tiles", CONFIG, plan).config_hash)
    assert len(found) == len(tuned) + 1
    assert all(each.startswith(f"{CONFIG.hash}-") for each in found)
