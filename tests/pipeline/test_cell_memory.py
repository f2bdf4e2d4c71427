"""Memory that cells ask for."""

import pytest
import ray

from raydeblend.errors import ConfigError
from raydeblend.pipeline import graph
from raydeblend.pipeline.cell_memory import GIB, check_memory, check_room, n_places


def node(memory, cpus=8.0, alive=True):
    return {"Alive": alive, "Resources": {"memory": memory * GIB, "CPU": cpus}}


@pytest.fixture
def _nodes(monkeypatch):
    """Machines of 10 and 25 GiB; a head without CPUs and a machine that is gone, of 100 each."""
    there = [node(10.5), node(25), node(100, cpus=0.0), node(100, alive=False)]
    monkeypatch.setattr(ray, "nodes", lambda: there)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16.0})


@pytest.mark.usefixtures("_nodes")
def test_places_are_counted_on_each_machine():
    assert [n_places(gib) for gib in (5, 6, 10, 20, 30)] == [7, 5, 3, 1, 1]
    check_room(25)
    check_room(None)
    with pytest.raises(ConfigError, match=r"has the 26 GiB .* the largest gives Ray 25\.0 GiB"):
        check_room(26)


@pytest.mark.usefixtures("_nodes")
@pytest.mark.parametrize(
    ("gib", "actors", "of_tasks"), [(None, 16, None), (0.1, 16, 0.1), (5, 3, 5), (20, 1, None)]
)
def test_actors_leave_room_for_the_tasks(gib, actors, of_tasks):
    asked, tasks = graph._actors(0, 100, gib), graph._tasks(gib)
    assert (asked["compute"].min_size, asked["compute"].max_size) == (actors, actors)
    assert asked.get("memory") == (None if gib is None else gib * GIB)
    assert tasks.get("memory") == (None if of_tasks is None else of_tasks * GIB)


@pytest.mark.parametrize("gib", [0, -1, float("nan"), float("inf")])
def test_what_is_no_amount_is_refused(gib):
    with pytest.raises(ConfigError, match="GiB above 0"):
        check_memory(gib)
