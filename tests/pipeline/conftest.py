"""The survey that the tests of deaths lose parts of, and its catalog when nothing is lost."""

import deaths
import pytest
from in_process import catalogs_in_process

from raydeblend.pipeline.survey import run_catalog


@pytest.fixture(scope="session")
def tiles(tmp_path_factory):
    """One tile of sixteen cells."""
    return deaths.write_survey(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="session")
def undisturbed(tiles, tmp_path_factory):
    """The output of a run in which nothing dies: it has no workers."""
    out = str(tmp_path_factory.mktemp("run") / "out")
    with catalogs_in_process():
        summary = run_catalog(tiles, out, deaths.CONFIG, progress=False)
    assert (summary.n_cells, summary.n_failed) == (deaths.N_CELLS, 0)
    return out
