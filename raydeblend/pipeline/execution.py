"""Where the cells of a run are done, and with what; their catalog does not depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from raydeblend.pipeline.cell_memory import check_memory
from raydeblend.pipeline.time_limit import STAGE_S


@dataclass(frozen=True)
class Execution:
    """What a run has to work with.

    Attributes
    ----------
    address
        A Ray cluster; by default ``RAY_ADDRESS``, else this machine.
    gpus
        Number of GPUs to deblend on, by default all that are available.
    memory_per_cell
        GiB of memory to reserve in Ray for a process that works on a cell: with less, fewer cells
        run at a time.  None reserves nothing.
    cell_timeout
        Seconds that each stage may take on a cell, after which the cell fails.
    patience
        Seconds without any progress, on any machine, after which the remaining cells fail:
        something hangs, or no worker comes.  None waits forever.
    cells_per_block
        Cells that Ray moves together, by default as many as the size of the cluster asks for.

    Raises
    ------
    ConfigError
        On construction, if the memory is no amount.
    """

    address: str | None = None
    gpus: int | None = None
    memory_per_cell: float | None = None
    cell_timeout: float = STAGE_S
    patience: float | None = None
    cells_per_block: int | None = None

    def __post_init__(self) -> None:
        check_memory(self.memory_per_cell)


THIS_MACHINE = Execution()
