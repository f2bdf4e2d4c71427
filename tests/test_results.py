"""The tables of the pages are those stored, and `make results` writes them."""

import json
import shlex

import pytest

from benchmarks import results
from benchmarks.cards import SHOWN, outdated_cards, write_cards
from benchmarks.results import MARKER, PAGES, RUNS, STORED, WEIGHTS, ResultsError, Run, render
from raydeblend.evaluate.common.tables import Table, to_plain
from raydeblend.networks.weights import shipped_weights

TABLES = to_plain(
    [
        Table(["a", "b"], [["1", "2"]], "Scores", ("Above.",), ("Below.",)),
        Table(["c"], [["3"]], "Other"),
        Table(["d"], [["4"]]),
    ]
)
PROVENANCE = {
    "command": "raydeblend evaluate x --out /tmp/x",
    "date": "2026-11-20 22:00 UTC",
    "commit": "abc",
    "hardware": "a computer",
    "seconds": 3.4,
}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A repository with one stored run."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "STORED", tmp_path / "docs" / "results")
    monkeypatch.setattr(results, "PAGES", (tmp_path / "README.md",))
    monkeypatch.setattr(results, "WEIGHTS", tmp_path)
    run = Run("x", "raydeblend evaluate x")
    results.store(run, {"provenance": PROVENANCE, "tables": TABLES, "metrics": [{"psnr": 1.5}]})
    return tmp_path


def test_a_section_is_written_from_what_is_stored(stored):
    readme = "before\n<!-- results:x/Scores -->\nold\n<!-- /results -->\nafter\n"
    text = render(readme)
    origin = "`raydeblend evaluate x`: 2026-11-20, commit abc, a computer, 3 s"
    table = "| a | b |\n| - | - |\n| 1 | 2 |\n\nBelow."
    assert text == readme.replace("old\n", f"{origin}\n\n{table}\n")
    assert render(text) == text
    both = render("<!-- results:x -->\n<!-- /results -->")
    assert "*Scores*" in both
    assert both.endswith("*Other*\n\n| c |\n| - |\n| 3 |\n\n| d |\n| - |\n| 4 |\n<!-- /results -->")
    assert "| 4 |" in render("<!-- results:x/Table 3 -->\n<!-- /results -->")


def test_check_sees_a_number_changed_by_hand(stored, capsys):
    readme = stored / "README.md"
    readme.write_text("<!-- results:x/Scores -->\n<!-- /results -->\n")
    assert results.main(["--check"]) == 1
    assert results.main(["--stored"]) == 0
    assert results.main(["--check"]) == 0
    readme.write_text(readme.read_text().replace("| 2 |", "| 3 |"))
    assert results.main(["--check"]) == 1
    assert "do not say" in capsys.readouterr().err


def test_a_card_takes_the_rows_about_its_weights(stored):
    """Not those of other deblenders, and none of a run that had other weights."""
    header, rows = ["galaxy", "deblender", "mape"], [["1", "rdn", "0.1"], ["1", "sep", "0.2"]]
    made = {"tables": to_plain([Table(header, rows, "Scores")]), "metrics": []}
    run = Run("wang2022", "raydeblend evaluate wang2022")
    results.store(run, {"provenance": PROVENANCE | {"weights": {"rdn": "f00"}}, **made})
    for name, sha256 in ("rdn", "f00"), ("branched", "f00"):
        card = {"sha256": sha256, "scores": {"kept": {"loss": 1.0}, "raydeblend evaluate old": []}}
        (stored / f"{name}.json").write_text(json.dumps(card))
        (stored / f"{name}.safetensors").touch()
    assert outdated_cards(results.STORED, stored) == ["branched.json", "rdn.json"]
    write_cards(results.STORED, stored)
    assert outdated_cards(results.STORED, stored) == []
    part = {"columns": ["galaxy", "deblender", "mape"], "rows": [["1", "rdn", "0.1"]]}
    scores = json.loads((stored / "rdn.json").read_text())["scores"]
    assert scores == {"kept": {"loss": 1.0}, "raydeblend evaluate wang2022": [part]}
    assert json.loads((stored / "branched.json").read_text())["scores"] == {"kept": {"loss": 1.0}}


def test_the_shipped_cards_say_what_is_stored():
    assert outdated_cards(STORED, WEIGHTS) == []
    assert set(shipped_weights()) <= set(SHOWN)


def test_what_is_not_there_is_an_error(stored):
    with pytest.raises(ResultsError, match=r"no docs/results/y\.json"):
        render("<!-- results:y -->\n<!-- /results -->")
    with pytest.raises(ResultsError, match="no table 'Missing'"):
        render("<!-- results:x/Missing -->\n<!-- /results -->")
    assert results.main(["nothing"]) == 1


def test_what_cannot_run_is_skipped_with_a_line(stored, capsys):
    runs = (Run("a", "raydeblend evaluate a", data="no/data"), Run("b", "x", weights=("none",)))
    results.make_runs(runs)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["skipped a: no no/data", "skipped b: no weights none"]


def test_a_benchmark_is_stored_with_its_provenance(stored, monkeypatch):
    monkeypatch.setattr(results, "WORK", stored / "work")
    script = f"import sys; open(sys.argv[-1], 'w').write({json.dumps(TABLES)!r})"
    made = results.make_run(Run("p", shlex.join(["python", "-c", script])))
    assert made["tables"] == json.loads(json.dumps(TABLES))
    assert made["provenance"]["commit"]
    with pytest.raises(ResultsError, match="ended with 3"):
        results.make_run(Run("p", "python -c 'raise SystemExit(3)'"))


def test_the_runs_are_commands_of_this_repository():
    from raydeblend.evaluate.protocol import PROTOCOLS

    assert len({run.name for run in RUNS}) == len(RUNS)
    for run in RUNS:
        words = shlex.split(run.command)
        if run.evaluates:
            assert words[2] in PROTOCOLS
        else:
            assert words[:2] == ["python", "-m"]
            assert (results.ROOT / (words[2].replace(".", "/") + ".py")).exists()


def test_the_pages_say_what_is_stored_and_that_is_of_these_commands():
    texts = [page.read_text() for page in PAGES]
    assert [render(text) for text in texts] == texts
    shown = {match[1] for text in texts for match in MARKER.findall(text)}
    commands = {run.name: run.command for run in RUNS}
    assert shown <= commands.keys()
    for name in shown:
        content = json.loads((STORED / f"{name}.json").read_text())
        assert content["provenance"]["command"] == commands[name]


def test_the_readme_is_one_page():
    assert len(PAGES[0].read_text().splitlines()) <= 150
