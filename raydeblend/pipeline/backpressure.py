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

from raydeblend.pipeline.ray_internals import POLICIES_KEY, BackpressurePolicy, MapOperator

AHEAD = 4
"""Blocks on their way for each CPU: one that a task has, one that an actor has, two that wait."""
STORE_SHARE = 0.25
"""Of the object store, for all of them: the limit where cells are larger than any seen yet."""


class InFlightLimit(BackpressurePolicy):  # type: ignore[misc]  # Ray Data is not typed
    """No block is begun while too many are between the first stage and the last.

    They are counted where they are, so that those lost with a worker are not waited for.
    """

    def can_add_input(self, op: Any) -> bool:
        """Tell whether a stage may take another block; only the first one is ever held back."""
        first, later = self._stages()
        return op is not first or first.num_active_tasks() + self._found(later) < self._most()

    def max_task_output_bytes_to_read(self, op: Any) -> int | None:
        """Return how much of a stage's results to take; None is all.

        Where nothing runs, as long as the actors start, Ray Data begins a block of the first stage
        whatever is said above.  Until its result is taken it counts as one that runs.
        """
        first, later = self._stages()
        return 0 if op is first and self._found(later) >= self._most() else None

    def _stages(self) -> tuple[MapOperator, list[MapOperator]]:
        first, *later = [stage for stage in self._topology if isinstance(stage, MapOperator)]
        return first, later

    def _found(self, later: list[MapOperator]) -> int:
        """Return how many blocks have left the first stage and not yet the last."""
        waiting = sum(self._topology[stage].total_enqueued_input_blocks() for stage in later)
        return int(waiting + sum(stage.num_active_tasks() for stage in later))

    def _most(self) -> float:
        """Return how many blocks may be on their way in the cluster as it is now."""
        there, (first, later) = self._resource_manager.get_global_limits(), self._stages()
        # None until one has come.
        size = max(stage.metrics.average_bytes_per_output or 1.0 for stage in (first, *later))
        return float(max(1.0, min(AHEAD * max(1.0, there.cpu), there.object_store_memory / size)))


def set_limits(graph: ray.data.Dataset) -> None:
    """Tell Ray Data how much of a graph may be under way."""
    graph.context.op_resource_reservation_enabled = False
    graph.context.override_object_store_memory_limit_fraction = STORE_SHARE
    graph.context.set_config(POLICIES_KEY, [InFlightLimit])
