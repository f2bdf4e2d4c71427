"""How far the stages of a run may be ahead of each other: back-pressure set on purpose.

Left to itself Ray Data 2.60 lets detection run to the end of the survey, and cells that have only
to be measured fill the object store.  What is done with is freed at once; but Ray Data reserves
CPUs for each stage, and loses the fraction of a CPU that it cannot divide: of two it knows 1.81
after twenty seconds, less than a task of either kind and the actors ask for.  The last stage then
gets its turn only when nothing runs, and the first one has it before.  So nothing is reserved here
(tasks wait for a CPU in Ray itself), and what is on its way is counted.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.operators.map_operator import MapOperator

AHEAD = 4
"""Blocks on their way for each CPU: one that a task has, one that an actor has, two that wait."""
STORE_SHARE = 0.25
"""Of the object store, for what waits: the limit where cells are larger than any seen yet."""


class Ahead(BackpressurePolicy):  # type: ignore[misc]  # Ray Data is not typed
    """No block is begun while too many are between the first stage and the last.

    They are counted where they are, so that those lost with a worker are not waited for.  Where
    nothing is on its way one is always begun.
    """

    def can_add_input(self, op: Any) -> bool:
        """Tell whether a stage may take another block; only the first one is ever held back."""
        first, *later = [stage for stage in self._topology if isinstance(stage, MapOperator)]
        if op is not first:
            return True
        queues = [self._topology[stage] for stage in later]
        blocks = sum(queue.total_enqueued_input_blocks() for queue in queues)
        blocks += sum(stage.num_active_tasks() for stage in (first, *later))
        waiting = sum(queue.total_enqueued_input_blocks_bytes() for queue in queues)
        # Of the cluster as it is now, which may have grown.
        there = self._resource_manager.get_global_limits()
        room = blocks < AHEAD * max(1.0, there.cpu)
        return not blocks or (room and waiting <= there.object_store_memory)


def set_limits(graph: ray.data.Dataset) -> None:
    """Tell Ray Data how much of a graph may be under way."""
    graph.context.op_resource_reservation_enabled = False
    graph.context.override_object_store_memory_limit_fraction = STORE_SHARE
    graph.context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [Ahead])
