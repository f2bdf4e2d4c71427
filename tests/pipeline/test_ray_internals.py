"""What raydeblend takes of Ray's inside is there, and behaves as it must."""

import inspect
import re
from pathlib import Path
from typing import ClassVar

import pytest
import ray
from ray.data._internal.execution import streaming_executor_state
from ray.data._internal.execution.backpressure_policy import get_backpressure_policies
from ray.data.context import DataContext
from ray.exceptions import RayTaskError

from raydeblend.pipeline.backpressure import InFlightLimit, set_limits
from raydeblend.pipeline.lost_blocks import lost_block_errors, tolerate_lost_blocks
from raydeblend.pipeline.ray_internals import (
    BLOCK_LOG,
    BackpressurePolicy,
    ExecutionCallback,
    MapOperator,
)
from raydeblend.pipeline.under_way import UnderWay

ROOT = Path(__file__).parents[2]
INSIDE = re.compile(r"^\s*(from|import) ray\S*\._|getLogger\(.ray\.\S*\._|\bray\._", re.MULTILINE)


def test_one_file_takes_of_the_inside():
    package = [*(ROOT / "raydeblend").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")]
    taking = {path.name for path in package if INSIDE.search(path.read_text())}
    assert taking == {"ray_internals.py"}


@pytest.mark.parametrize("name", ["can_add_input", "max_task_output_bytes_to_read"])
def test_a_policy_is_asked_as_ours_answers(name):
    asked, ours = (getattr(policy, name) for policy in (BackpressurePolicy, InFlightLimit))
    assert inspect.signature(asked).parameters.keys() == inspect.signature(ours).parameters.keys()


def test_a_policy_knows_what_ours_looks_at():
    (policy,) = policies(DataContext())
    assert (policy._topology, policy._resource_manager) == ("topology", "resources")
    state = streaming_executor_state.OpState
    assert callable(state.total_enqueued_input_blocks)
    assert callable(MapOperator.num_active_tasks)


def policies(context):
    class Graph:
        pass

    Graph.context = context
    set_limits(Graph)
    return get_backpressure_policies(context, "topology", "resources")


def test_blocks_that_are_left_out_are_told_of_by_the_logger_we_listen_to():
    assert streaming_executor_state.logger is BLOCK_LOG


def test_a_callback_is_called_as_ours_answers(ray_local):
    class Seen(ExecutionCallback):
        steps: ClassVar[list[int]] = []

        def on_execution_step(self, executor):
            stages = [stage for stage in executor._topology if isinstance(stage, MapOperator)]
            self.steps.append(sum(stage.num_active_tasks() for stage in stages))

    for name in ("on_execution_step", "after_execution_succeeds", "after_execution_fails"):
        asked, ours = (getattr(kind, name) for kind in (ExecutionCallback, UnderWay))
        assert (
            inspect.signature(asked).parameters.keys() == inspect.signature(ours).parameters.keys()
        )
    graph = ray.data.range(4, override_num_blocks=4).map(lambda row: row)
    graph.context.custom_execution_callback_classes = [Seen]
    assert len(list(graph.iter_rows())) == 4
    assert max(Seen.steps) > 0


def test_an_error_that_is_no_death_comes_through(ray_local):
    def stumble(row):
        if row["id"] == 2:
            raise ModuleNotFoundError("nowhere")
        return row

    graph = ray.data.range(4, override_num_blocks=4).map(stumble)
    tolerate_lost_blocks(graph)
    with lost_block_errors() as errors:
        assert sorted(row["id"] for row in graph.iter_rows()) == [0, 1, 3]
    assert isinstance(errors.fault, RayTaskError)
    assert "nowhere" in str(errors.fault)
