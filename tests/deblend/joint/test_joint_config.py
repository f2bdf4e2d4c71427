"""What was tuned: it decides the result, and its hash what a run may be resumed with."""

from collections.abc import Iterator
from dataclasses import fields, replace

import galsim
import numpy as np
import pytest

from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.config import JointConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.ledger import Run, differences

JOINT = JointDeblender.load("cpu")
SCALE, SIZE = 0.2, 48
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = SEEING.drawImage(nx=41, ny=41, scale=SCALE).array[None]


def changed() -> Iterator[tuple[str, JointConfig]]:
    """Yield every number's name and the configuration with another value of it."""
    config = JointConfig()
    for part in fields(config):
        own = getattr(config, part.name)
        for number in fields(own):
            other = replace(own, **{number.name: 2 * getattr(own, number.name)})
            yield f"{part.name}.{number.name}", replace(config, **{part.name: other})


def catalog_hash(deblender: JointDeblender) -> str:
    """Return what ledger entries and ``run.json`` have as the hash of the weights."""
    return DeblendCell(CatalogConfig(("g",)), deblender).weights_hash


def test_every_number_changes_what_a_run_is_resumed_with() -> None:
    found = {name: replace(JOINT, config=config).weights_hash for name, config in changed()}
    assert len(found) > 40
    assert len({JOINT.weights_hash, *found.values()}) == len(found) + 1
    priors = replace(BulgeDiskPriors(), bulge=0.5)
    assert replace(JOINT, priors=priors).weights_hash != JOINT.weights_hash


def test_a_run_of_another_configuration_is_not_resumed() -> None:
    config = CatalogConfig(("g",))
    _, other = next(changed())
    mine, theirs = (
        Run("tiles", {}, config.hash, {"joint": catalog_hash(each)}, {}, {})
        for each in (JOINT, replace(JOINT, config=other))
    )
    assert not differences(mine, mine)
    assert ["weights" in difference for difference in differences(theirs, mine)] == [True]


def test_the_same_values_have_the_same_hash() -> None:
    assert catalog_hash(JOINT) == catalog_hash(
        replace(JointDeblender.load("cpu"), config=JointConfig())
    )
    assert JOINT.weights_hash in catalog_hash(JOINT)


@pytest.fixture(scope="module")
def pair() -> np.ndarray:
    """Two galaxies, the fainter one at a signal to noise of 20."""
    image = np.zeros((SIZE, SIZE))
    for x, flux in ((-5, 1500.0), (5, 150.0)):
        galaxy = galsim.Convolve(galsim.Exponential(half_light_radius=0.3, flux=flux), SEEING)
        image += galaxy.drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=(x, 0)).array
    noise = np.random.default_rng(4).normal(size=image.shape)
    return (image + noise)[None, None].astype(np.float32)


def test_another_value_gives_another_result(pair: np.ndarray) -> None:
    config = JointConfig()
    all_doubtful = replace(config.prune, max_doubtful_snr=100.0)
    dear = replace(config, search=replace(config.search, min_gain=1e4), prune=all_doubtful)
    counts = [
        replace(JOINT, config=each)(
            pair, np.ones_like(pair), psf=PSF, pixel_scale=SCALE
        ).n_sources.item()
        for each in (config, dear)
    ]
    assert counts == [2, 1]
