"""Processes to kill, stages that take their time or kill themselves, and a survey to lose."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import survey_sky as sky
from waiting import wait_for

from raydeblend import storage
from raydeblend.config import CatalogConfig
from raydeblend.pipeline.stages import Stages, stages_of

ROOT = Path(__file__).parents[2]
CONFIG = CatalogConfig(
    bands=sky.BANDS, deblender="sep", photometry="mixture", cell_size=105, border=30
)
N_CELLS = 16


def write_survey(folder):
    """One tile of four by four cells."""
    sky.write_tile(folder, "whole")
    return str(folder)


# Processes, of a tree that a test has started and no others


def tree(root):
    """Command lines by process id of all descendants of a process."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
                commands[int(entry.name)] = (
                    (entry / "cmdline").read_bytes().decode(errors="replace")
                )
            except OSError:  # it has just ended
                continue
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
    found, level = {}, {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found |= {pid: commands[pid] for pid in level if pid in commands}
    return found


def alive(pid):
    """Tell whether a process runs; one that nobody has waited for has no command line left."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def busy(root, kind):
    """Process ids of the workers below `root` that are at work on a cell just now.

    `kind` is ``worker``, ``actor`` or ``any``; Ray writes what a process does into its title.
    """
    title = {"worker": "ray::Map(", "actor": "ray::MapWorker(", "any": "ray::Map"}[kind]
    return [pid for pid, command in tree(root).items() if command.startswith(title)]


def raylets(root):
    """Process ids of the raylets below `root`, oldest first."""
    return sorted(pid for pid, command in tree(root).items() if "/raylet/raylet" in command[:200])


def kill(pid):
    """Kill a process as the kernel's memory killer would."""
    os.kill(pid, signal.SIGKILL)


def kill_busy(root, kind, rng, seconds=60.0):
    """Kill one of the workers of a kind, as soon as there is one."""
    found = wait_for(lambda: busy(root, kind), seconds)
    kill(int(rng.choice(found)))


def n_recorded(out):
    """Number of cells in the ledger of a local catalog."""
    return len(recorded(out))


def recorded(out):
    """Ledger entries of a local catalog, as paths."""
    return sorted(Path(out).glob("ledger/*/*.json"))


# Stages: module-level classes, pickled by value since Ray's workers cannot import this file


@dataclass(frozen=True)
class Watched:
    """A stage that leaves a mark for each of its beginnings, takes time, and dies on some cells."""

    stage: object
    name: str
    marks: str
    seconds: float = 0.0
    deadly: str = ""

    def __call__(self, content):
        cell = cell_of(content)
        Path(self.marks, f"{self.name} {cell} {time.time_ns()}").touch()
        time.sleep(self.seconds)
        if cell == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.stage(content)


def cell_of(content):
    """Name of the cell of a task, of its footprints or of its sources."""
    content = getattr(content, "detected", content)
    return getattr(content, "task", content).cell.name


@dataclass(frozen=True)
class Hanging:
    """A stage that does not come back from one cell until there is a file."""

    stage: object
    cell: str
    until: str

    def __call__(self, content):
        while cell_of(content) == self.cell and not Path(self.until).exists():
            time.sleep(0.1)
        return self.stage(content)


@dataclass(frozen=True)
class Stuck:
    """A stage that never comes back from two cells: one keeps Python busy, the other waits."""

    loops: str
    waits: str
    stage: object

    def __call__(self, content):
        while cell_of(content) == self.loops:
            # As careless plug-ins do.
            with suppress(Exception):
                time.sleep(0.01)
        if cell_of(content) == self.waits:
            time.sleep(600)
        return self.stage(content)


def stuck(loops, waits, make):
    """Make a stage that is stuck on two cells."""
    return Stuck(loops, waits, make())


def watched(config, marks, seconds=0.0, deadly=None):
    """Return the stages of `config`, watched; `deadly` is the poisonous cell by stage."""
    deadly = deadly or {}
    plain = stages_of(config)
    watch = {
        name: partial(
            Watched, name=name, marks=str(marks), seconds=seconds, deadly=deadly.get(name, "")
        )
        for name in ("detect", "deblend", "measure")
    }
    return Stages(
        watch["detect"](plain.detect),
        partial(made, watch["deblend"], plain.deblend),
        watch["measure"](plain.measure),
    )


def made(watch, make):
    """Make a stage and watch it."""
    return watch(make())


def begun(marks, name, cell="*"):
    """How often a stage was begun for a cell, or for all together."""
    return len(list(Path(marks).glob(f"{name} {cell} *")))


# A run in a process of its own


def environment(**more):
    """Return an environment in which a subprocess finds the package and Ray asks for no token."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])
    return {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": paths, **more}


def start_run(script, *arguments, log, **more):
    """Start a Python script of a test in its own process group; its output goes to `log`."""
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env=environment(**more),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def raydeblend(*arguments, **more):
    """Run the command to its end; returns exit code and all that it said."""
    command = [sys.executable, "-m", "raydeblend", *arguments]
    done = subprocess.run(command, env=environment(**more), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def shards(out):
    """Content of each shard by its path below the catalog."""
    root = storage.join(out, "catalog")
    paths = storage.list_files(root, ".parquet")
    return {path.removeprefix(storage.absolute(root)): storage.read_bytes(path) for path in paths}
