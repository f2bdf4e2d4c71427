"""How many blocks each stage of a run has under way, as Ray Data counts them in the driver."""

from __future__ import annotations

from typing import Any, ClassVar

import ray

from raydeblend.pipeline.ray_internals import ExecutionCallback, MapOperator

STAGES = ("detect", "deblend", "measure")
"""In the order of `pipeline.graph`."""


class UnderWay(ExecutionCallback):  # type: ignore[misc]  # Ray Data is not typed
    """Ray Data makes it from the class alone, so the counts are the class's own.

    Attributes
    ----------
    counts
        Of the run that this process drives, by stage.
    """

    counts: ClassVar[dict[str, int]] = {}

    def on_execution_step(self, executor: Any) -> None:
        """Count the blocks that are with a worker."""
        stages = [stage for stage in executor._topology if isinstance(stage, MapOperator)]
        # Nothing that is only shown may end a run.
        if len(stages) == len(STAGES):
            active = (stage.num_active_tasks() for stage in stages)
            self.counts.update(zip(STAGES, active, strict=True))

    def after_execution_succeeds(self, executor: Any) -> None:
        """Forget a graph that has ended."""
        self.counts.clear()

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Forget a graph that has ended."""
        self.counts.clear()


def count_blocks(graph: ray.data.Dataset) -> None:
    """Let Ray Data count while a graph runs."""
    graph.context.custom_execution_callback_classes = [UnderWay]
