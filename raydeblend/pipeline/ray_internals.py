"""All that raydeblend takes of Ray's inside; nothing else imports it.

Ray changes it without notice, and `tests/pipeline/test_ray_internals.py` fails when it does.  Why
no public means does:

- **Back-pressure.** `downstream_capacity_backpressure_ratio` and
  `object_store_memory_pressure_fraction` work on the budgets of the stages, which exist only with
  the reservation of resources that `backpressure` turns off; neither counts what is under way
  between the first stage and the last.
- **Blocks that are left out** (`max_errored_blocks`). Why one was is written to this logger and
  told nowhere else.  `retried_map_errors` is about exceptions alone, and a worker's death is none.
- **What is under way.** Ray Data's own progress bars show it; to anybody else it says nothing until
  the end.
"""

from __future__ import annotations

import logging

from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY as POLICIES_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.map_operator import MapOperator

__all__ = [
    "BLOCK_LOG",
    "POLICIES_KEY",
    "BackpressurePolicy",
    "ExecutionCallback",
    "MapOperator",
]

BLOCK_LOG = logging.getLogger("ray.data._internal.execution.streaming_executor_state")
