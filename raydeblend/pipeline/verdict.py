"""What a look at finished runs came to: cells counted, problems, and the commands that go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from raydeblend.pipeline.command import resume_command
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.ledger import Run
from raydeblend.wording import amount

EXAMPLES = 10
"""Problems of one kind that are printed."""
DAMAGED = (
    "shards that cannot be read",
    "shards that are not what the ledger says",
)
"""Kinds of problems for which a shard must go before its cell is done again."""


@dataclass(frozen=True)
class CellCounts:
    """Cells of a run.

    Attributes
    ----------
    done
        Those whose shard is there and whole.
    failed
        Those that the ledger says so of, and tiles that could not be planned.
    missing
        All others that are planned.
    unplanned
        The tiles among `failed`.
    """

    done: int
    failed: int
    missing: int
    unplanned: int = 0

    @property
    def complete(self) -> bool:
        """Whether all are done."""
        return not (self.failed or self.missing)

    def __str__(self) -> str:
        text = f"{amount(self.done, 'cell')} done, {self.failed} failed, {self.missing} missing"
        if not self.unplanned:
            return text
        return f"{text} ({self.unplanned} of those failed are tiles that could not be planned)"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong: a sentence, and which others are like it, in the plural."""

    kind: str
    text: str


@dataclass(frozen=True)
class RunVerdict:
    """What is wrong with one output."""

    out: str
    run: Run
    cells: CellCounts
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Verdict:
    """What is wrong with each output, and with all `together`."""

    runs: tuple[RunVerdict, ...]
    together: tuple[Problem, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All of them."""
        return tuple(problem for run in self.runs for problem in run.problems) + self.together

    @property
    def complete(self) -> bool:
        """Whether every cell is done and nothing is wrong."""
        return not self.problems and all(run.cells.complete for run in self.runs)


def cell_name(entry: LedgerEntry) -> str:
    """Return what a sentence calls the cell of an entry, or its tile."""
    return f"cell {entry.cell} of tile {entry.tile}" if entry.cell else f"tile {entry.tile}"


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """Yield the lines to print: counts first, then examples of problems, then what to do."""
    several = len(verdict.runs) > 1
    for run in verdict.runs:
        yield f"{run.out}: {run.cells}" if several else str(run.cells)
    yield from _example_lines(verdict.problems)
    yield from _rest_lines(verdict)
    if verdict.complete:
        outs = ", ".join(run.out for run in verdict.runs)
        yield f"{outs} {'are' if several else 'is'} complete"


def _example_lines(problems: Iterable[Problem]) -> Iterator[str]:
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem.text)
    for kind, texts in kinds.items():
        yield from texts[:EXAMPLES]
        if len(texts) > EXAMPLES:
            yield f"and {len(texts) - EXAMPLES} more {kind}"


def _rest_lines(verdict: Verdict) -> Iterator[str]:
    """Yield the commands that do what is not done, one for each output."""
    left = [run for run in verdict.runs if not run.cells.complete]
    if not left:
        return
    damaged = any(problem.kind in DAMAGED for run in left for problem in run.problems)
    yield "remove those shards, and do the rest with" if damaged else "do the rest with"
    for run in left:
        yield f"  {resume_command(run.out, run.run)}"
    mixed = [run for run in left if run.cells.failed and run.cells.missing]
    if mixed:
        yield "or only those that failed with"
    for run in mixed:
        yield f"  {resume_command(run.out, run.run, retry_failed=True)}"
    numbers = [run.run.part.partition("/")[0] for run in left]
    if len(verdict.runs) > 1 and len(set(numbers)) == len(left):
        yield f"as parts of a Slurm array: --array={','.join(sorted(numbers, key=int))}"
