import pickle
import time

import numpy as np
import pytest
from headers import make_header

from raydeblend.pipeline.plan import plan_hash, plan_survey


def cells(headers, size, border):
    plan = plan_survey(headers, size, border)
    return [plan.task(i).cell for i in range(len(plan))]


@pytest.mark.parametrize(("shape", "size"), [((300, 300), 128), ((257, 100), 64), ((64, 65), 64)])
def test_every_pixel_is_in_one_inner_region(shape, size):
    times = np.zeros(shape, dtype=int)
    for cell in cells([make_header("a", shape)], size, border=20):
        times[cell.inner.slices] += 1
        assert max(cell.inner.shape) <= size
    assert (times == 1).all()


def test_outer_region_adds_the_border_inside_the_tile():
    first, *_, last = cells([make_header("a")], 100, border=20)
    assert (first.inner.y0, first.inner.x0, first.inner.y1, first.inner.x1) == (0, 0, 100, 100)
    assert (first.outer.y0, first.outer.x0, first.outer.y1, first.outer.x1) == (0, 0, 120, 120)
    assert (last.outer.y0, last.outer.x1) == (180, 300)


def test_names_are_unique_and_depend_on_the_inner_region_alone():
    names = [cell.name for cell in cells([make_header("a")], 100, border=20)]
    assert len(set(names)) == 9
    assert names == [cell.name for cell in cells([make_header("b")], 100, border=0)]


def test_a_plan_gives_back_headers_neighbors_and_keys():
    headers = [make_header(f"t{i}", origin=(250 * i, 0)) for i in range(3)]
    plan = plan_survey(headers, 150, border=20)
    assert len(plan) == 12
    for i, (tile, cell) in enumerate(plan.keys()):
        task = plan.task(i)
        assert (task.cell.tile.name, task.cell.name) == (tile, cell)
        assert task.cell.tile == headers[i // 4]
        assert [other.name for other in task.neighbors] == {
            "t0": ["t1"], "t1": ["t0", "t2"], "t2": ["t1"]
        }[tile]  # fmt: skip
    table = plan.to_table()
    assert table["y1"].to_pylist()[:4] == [150, 150, 300, 300]
    assert len(plan_survey([], 150, 20)) == 0


def test_the_hash_follows_the_cells_alone():
    plan = plan_survey([make_header("a")], 150, 20).to_table()
    assert plan_hash(plan) == plan_hash(plan_survey([make_header("a")], 150, 40).to_table())
    assert plan_hash(plan) != plan_hash(plan_survey([make_header("b")], 150, 20).to_table())
    assert plan_hash(plan) != plan_hash(plan_survey([make_header("a")], 100, 20).to_table())


def test_a_plan_of_many_cells_is_small_and_quick_to_take_apart():
    """1/100 of 1,400 square degrees of HSC patches; benchmarks/survey does the whole."""
    headers = [
        make_header(f"9813-{x},{y}", (4200, 4200), (4000 * x, 4000 * y), ("g", "r", "i"))
        for x in range(20) for y in range(20)
    ]  # fmt: skip
    start = time.process_time()
    plan = plan_survey(headers, 1050, 96)
    assert time.process_time() - start < 2
    assert len(plan) == 6400
    # Headers with their neighbors' would take 30,000 bytes a cell.
    assert len(pickle.dumps(plan)) / len(plan) < 150
    inner = plan.task(17).cell.inner
    assert inner.shape == (1050, 1050)
    np.testing.assert_array_equal(np.unique(np.bincount(plan.tile)), [16])
