"""``catalog --resume --retry-limited``: more work for limited footprints, all else as it was."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import catalogs_in_process

from benchmarks.crowded_cell import crowd
from benchmarks.gaussian_sky import BANDS, write_tile
from raydeblend import parents, storage
from raydeblend.catalog import read_catalog
from raydeblend.cli.main import main
from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.config import JointConfig, LimitConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.errors import ConfigError, TileError
from raydeblend.flags import Flag
from raydeblend.pipeline import stages
from raydeblend.pipeline.forecast import forecast_catalog
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog

SIZE, N = 96, 44
CONFIG = CatalogConfig(BANDS, survey="HSC", cell_size=SIZE)
FACTOR = 2000.0
AGAIN = RunRequest(resume=True, retry_limited=FACTOR)
USUAL = LimitConfig()
LESS = replace(
    USUAL, most_work=USUAL.most_work / FACTOR, work_per_source=USUAL.work_per_source / FACTOR
)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("tiles"))
    write_tile(folder, "crowd", crowd(N, SIZE))
    return folder


@pytest.fixture(scope="module")
def usual(tiles: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The catalog with usual limits."""
    out = str(tmp_path_factory.mktemp("usual") / "out")
    with catalogs_in_process():
        run_catalog(tiles, out, CONFIG, progress=False)
    return out


@pytest.fixture
def little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A joint fit that is allowed next to nothing."""
    load = JointDeblender.load

    def limited(device: str | None = None) -> JointDeblender:
        return replace(load(device), config=JointConfig(limits=LESS))

    monkeypatch.setattr(JointDeblender, "load", limited)


@pytest.fixture
def limited(tiles: str, tmp_path: Path, little_work: None) -> Iterator[str]:
    """A catalog whose large footprint was limited; runs stay in this process."""
    out = str(tmp_path / "out")
    with catalogs_in_process():
        run_catalog(tiles, out, CONFIG, progress=False)
        yield out


def rows(out: str, footprints: set[int], among: bool) -> list[dict[str, object]]:
    return [
        row for row in read_catalog(out).to_pylist() if (row["parent_id"] in footprints) == among
    ]


def test_with_as_much_work_as_usual_the_catalog_is_the_usual_one(
    tiles: str, usual: str, limited: str
) -> None:
    (entry,) = read_entries(limited)
    assert entry.shortfalls["limited"] >= 1
    table = parents.read_parents(limited)
    short = {r["parent_id"] for r in table.to_pylist() if r["shortfall"] == "limited"}
    assert all(row["flags"] & Flag.DEBLEND_LIMITED for row in rows(limited, short, True))
    others = rows(limited, short, among=False)
    assert others
    assert forecast_catalog(tiles, limited, CONFIG, AGAIN).n_left == 1
    assert forecast_catalog(tiles, limited, CONFIG, RunRequest(resume=True)).n_left == 0
    run_catalog(tiles, limited, CONFIG, AGAIN, progress=False)
    assert rows(limited, short, among=False) == others
    assert rows(limited, short, True) == rows(usual, short, True)
    assert verify_catalog(limited) == []
    (entry,) = read_entries(limited)
    assert (entry.done, entry.retried, entry.reason) == (True, len(short), "")
    assert "limited" not in entry.shortfalls
    table = parents.read_parents(limited)
    factors = {r["parent_id"]: r["work_factor"] for r in table.to_pylist()}
    assert {p for p, factor in factors.items() if factor == FACTOR} == short
    assert table.drop_columns("work_factor") == parents.read_parents(usual).drop_columns(
        "work_factor"
    )


def test_what_is_limited_still_is_not_tried_with_as_little_again(tiles: str, limited: str) -> None:
    run_catalog(tiles, limited, CONFIG, RunRequest(resume=True, retry_limited=1.01), progress=False)
    files = {path: storage.stamp(path) for path in storage.list_files(f"{limited}/catalog")}
    (entry,) = read_entries(limited)
    assert entry.shortfalls["limited"] == entry.retried >= 1
    run_catalog(tiles, limited, CONFIG, RunRequest(resume=True, retry_limited=1.01), progress=False)
    assert {path: storage.stamp(path) for path in files} == files


def test_a_second_pass_that_fails_leaves_the_first(
    tiles: str, limited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_catalog(limited)

    def fail(*_: object, **__: object) -> None:
        raise TileError("gone")

    monkeypatch.setattr(stages, "read_tile", fail)
    run_catalog(tiles, limited, CONFIG, AGAIN, progress=False)
    (entry,) = read_entries(limited)
    assert (entry.done, entry.reason) == (True, "detect: gone")
    assert read_catalog(limited) == before
    assert verify_catalog(limited) == []


@pytest.mark.parametrize("before", [("residual",), ()])
def test_what_a_run_saves_would_be_of_the_first_pass(
    tiles: str, tmp_path: Path, little_work: None, before: tuple[str, ...]
) -> None:
    out = str(tmp_path / "out")
    with catalogs_in_process():
        run_catalog(tiles, out, replace(CONFIG, save=before), progress=False)
        files = {path: storage.stamp(path) for path in storage.list_files(out)}
        # Kept by an earlier run, or to be kept by this one.
        now = replace(CONFIG, save=() if before else ("segmentation",))
        with pytest.raises(ConfigError, match=f"cannot update .*{(before or now.save)[0]}"):
            run_catalog(tiles, out, now, AGAIN, progress=False)
    assert {path: storage.stamp(path) for path in storage.list_files(out)} == files


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--retry-limited"], "--retry-limited requires --resume"),
        (["--resume", "--retry-limited", "--more-work", "1"], "must be a factor above 1, not 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["catalog", str(tmp_path), str(tmp_path / "out"), "--bands", "g", *options])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
