import io
import json
import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.spatial.distance import cdist

from raydeblend.cli.evaluate import evaluate_command
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.baselines import load_compared, load_named
from raydeblend.evaluate.common.blends import to_blend_set
from raydeblend.evaluate.common.request import Request
from raydeblend.evaluate.common.scarlet import find_scarlet
from raydeblend.evaluate.common.tables import read_tables, to_markdown
from raydeblend.evaluate.protocol import PROTOCOLS, run_evaluation, to_json
from raydeblend.evaluate.wang2022.paper import PAPER_SCORES
from raydeblend.simulate.protocols import wang2022_blends

VALID = Path(__file__).parents[3] / "shared/data/protocols/wang2022_valid.npz"


@pytest.mark.skipif(not VALID.exists(), reason="needs ../shared/data")
def test_writes_metrics_tables_and_figures(tmp_path):
    out = tmp_path / "run"
    evaluation = run_evaluation(Request("wang2022", (), str(VALID), 4, str(out)))
    rows = json.loads((out / "metrics.json").read_text())
    cases = [(row["deblender"], row["n_galaxies"], row["galaxy"], row["n"]) for row in rows]
    assert cases == [("sep", *case, 4) for case in PAPER_SCORES]
    assert (out / "tables.md").read_text() == evaluation.tables
    tables = read_tables((out / "tables.json").read_bytes(), "tables.json")
    assert to_markdown(tables) == evaluation.tables
    assert [table.title for table in tables][:2] == ["Scores", "Quality"]
    assert {Path(path).name for path in evaluation.paths} == {path.name for path in out.iterdir()}
    for path in out.glob("*.png"):
        assert imread(io.BytesIO(path.read_bytes())).std() > 0.05
    names = {path.stem for path in out.glob("*.png")}
    drawn = {f"{kind}_{k}" for kind in ("flux", "gallery_sep", "moments_sep") for k in (2, 3)}
    assert names == drawn


def test_draws_a_test_set_by_seed():
    first, again = (to_blend_set(wang2022_blends(3, seed=5)) for _ in range(2))
    other = to_blend_set(wang2022_blends(3, seed=6))
    for one, two, three in zip(first.blends, again.blends, other.blends, strict=True):
        np.testing.assert_array_equal(one.images, two.images)
        assert not np.array_equal(one.images, three.images)
        # The noise has the unit of the data: the sky sigma of each band.
        noise = one.images - one.isolated.sum(axis=1)
        assert np.median(np.abs(noise)) * 1.4826 == pytest.approx(1, rel=0.1)


def test_evaluates_a_drawn_set(tmp_path):
    evaluation = run_evaluation(Request("wang2022", ("sep",), None, 3, str(tmp_path), seed=1))
    assert {row["deblender"] for row in evaluation.rows} == {"sep"}
    assert all(row["n"] == 3 for row in evaluation.rows)


def test_what_does_not_exist_is_null_in_json():
    assert json.loads(
        to_json([{"flux_bias": float("nan"), "psnr_mean": float("inf"), "n": 1}])
    ) == [{"flux_bias": None, "psnr_mean": None, "n": 1}]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"protocol": "wang2023"}, "unknown protocol 'wang2023'; known: wang2022"),
        ({"deblenders": ("xyz",)}, "xyz"),
        ({"n": 0}, "at least 1"),
        ({"data": "missing.npz"}, "no file missing.npz"),
        ({"catalog": "x.fits"}, "wang2022 does not take --catalog; it is for nemani2023, madness"),
        ({"bands": 1}, "wang2022 does not take --bands; it is for hemmati2022"),
        ({"data": "x.npz", "seed": 1}, "draws nothing where --data .* --seed would change nothing"),
        ({"protocol": "survey", "data": "tiles"}, "survey draws nothing .* --n would"),
        ({"protocol": "hsc-blends", "data": "x", "seed": 3}, "does not take --seed; it is for"),
        ({"protocol": "gan"}, "gan does not take --deblender"),
        ({"protocol": "gan", "deblenders": None, "data": None, "bands": 7}, "not take --bands"),
        ({"protocol": "hst-pair", "deblenders": None}, "hst-pair does not take --n; it is for"),
        ({"protocol": "hst-pair", "deblenders": None, "n": None}, "needs the folder"),
    ],
)
def test_bad_arguments_are_found_before_any_work(tmp_path, change, sentence):
    arguments = {"protocol": "wang2022", "deblenders": ("sep",), "data": None, "n": 2}
    with pytest.raises(ConfigError, match=sentence):
        run_evaluation(Request(**(arguments | change), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_joint_true_stays_where_it_is_told():
    """The joint fit itself lets a position that is given move by a quarter of a pixel."""
    data = to_blend_set(wang2022_blends(6, seed=5))
    blends = data.blends[0]
    farthest = []
    for name in ("joint-true", "joint"):
        variance = np.ones_like(blends.images)
        told = list(blends.xy)
        result = load_named(name)(
            blends.images, variance, psf=data.psf, pixel_scale=data.pixel_scale, xy=told
        )
        moved = [
            cdist(given, found).min(1).max() for given, found in zip(told, result.xy, strict=True)
        ]
        farthest.append(max(moved))
    assert farthest[0] < 0.06
    assert farthest[1] > 2 * farthest[0]


def test_scarlet_is_said_to_be_left_out_or_runs(caplog):
    with caplog.at_level("INFO"):
        loaded = load_compared(("joint-true",), {})
    if find_scarlet() is None:
        assert list(loaded) == ["joint-true", "sep"]
        assert "scarlet does not import here" in caplog.text
        with pytest.raises(ConfigError, match="scarlet is not installed"):
            load_compared(("scarlet",), {})
    else:
        assert list(loaded) == ["joint-true", "sep", "scarlet"]


def test_no_option_of_the_command_is_dropped_and_none_is_for_nobody():
    taken = {option for protocol in PROTOCOLS.values() for option in protocol.takes}
    assert taken | {"protocol", "out", "config", "overwrite"} == set(
        signature(evaluate_command).parameters
    )
    assert all(set(protocol.draws) <= set(protocol.takes) for protocol in PROTOCOLS.values())


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_every_protocol_has_a_module_that_runs_it(protocol):
    module = import_module(f"raydeblend.evaluate.{protocol.module}")
    assert list(signature(module.run).parameters) == ["request"]


def test_the_table_of_protocols_loads_none_of_them():
    script = (
        "import sys, raydeblend.evaluate.protocol; heavy = ('torch', 'matplotlib', 'ray'); "
        "print([name for name in heavy if name in sys.modules], "
        "[name for name in sys.modules if name.startswith('raydeblend.evaluate.wang2022.scores')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[] []\n"
