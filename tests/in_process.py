"""Catalogs without Ray: the stages that its workers would call, cell by cell in this process.

For tests of what a catalog holds; how Ray brings the cells through is for `tests/pipeline`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import pytest
from numpy.typing import NDArray
from ray import cloudpickle

from raydeblend.config import CatalogConfig
from raydeblend.evaluate.shear import run as shear_protocol
from raydeblend.evaluate.singles import run as singles_protocol
from raydeblend.evaluate.survey import run as survey_protocol
from raydeblend.pipeline import preparation, survey
from raydeblend.pipeline.cell_state import CellState, run_stage_safely
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.execution import Execution
from raydeblend.pipeline.ledger import Run
from raydeblend.pipeline.outcome import write_cell
from raydeblend.pipeline.plan import Plan
from raydeblend.pipeline.stages import Stages, stages_of
from raydeblend.simulate import tiles

T = TypeVar("T")


@contextmanager
def catalogs_in_process() -> Iterator[None]:
    """Let `run_catalog` do its cells, and `simulate_tiles` its tiles, in this process meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (preparation, survey_protocol, singles_protocol, shear_protocol):
            patch.setattr(module, "ray_session", lambda *_: nullcontext())
        for module in (tiles, shear_protocol):
            patch.setattr(module, "write_in_parallel", write_in_turn)
        patch.setattr(survey, "claim_gpus", lambda *_: 0)
        patch.setattr(survey, "shared_folder", lambda *_: nullcontext(""))
        patch.setattr(survey, "process", process)
        yield


def write_in_turn(
    write: Callable[[Any, int, int, str], int],
    sky: object,
    n_tiles: int,
    seed: int,
    out: str,
    address: str | None = None,
) -> Iterator[int]:
    """Write tiles as `write_in_parallel` does, one after the other."""
    for tile in range(n_tiles):
        yield write(sky, tile, seed, out)


def process(
    plan: Plan,
    todo: NDArray[Any],
    out: str,
    config: CatalogConfig,
    run: Run,
    execution: Execution,
    stages: Stages | None = None,
    proof: str = "",
) -> Iterator[LedgerEntry]:
    """Do cells as `rounds.process` does, one after the other.

    What workers would get from another process has been pickled here too.
    """
    plan, stages = sent(plan), stages or sent(stages_of(config))
    chain = {"detect": stages.detect, "deblend": stages.deblend(), "measure": stages.measure}
    for i in todo:
        work = CellState(plan.task(int(i)))
        for name, stage in chain.items():
            work = sent(run_stage_safely(work, name, stage))
        yield write_cell(work, out, run.weights[config.deblender], run.config_hash)


def sent(value: T) -> T:
    """Return a value as another process would get it."""
    received: T = cloudpickle.loads(cloudpickle.dumps(value))
    return received
