from dataclasses import asdict, fields

from typer.main import get_command
from typer.testing import CliRunner

from raydeblend.cli.main import app
from raydeblend.config import CatalogConfig
from raydeblend.pipeline.command import FOUND, OPTIONS, SWITCHES, resume_command
from raydeblend.pipeline.entries import LedgerEntry, write_entry
from raydeblend.pipeline.ledger import Run, describe_plan, write_plan, write_run
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.verdict import CellCounts, Problem, RunVerdict, Verdict, verdict_lines


def run_of(config, input="tiles", **plan):
    return Run(input, asdict(config), config.hash, {}, {}, {"hash": "", **plan})


def as_json(run):
    """The bands as ``run.json`` has them."""
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in run.config.items()}
    return Run(run.input, config, run.config_hash, run.weights, run.versions, run.plan)


def test_a_command_names_what_is_no_default_and_quotes_it():
    config = CatalogConfig(
        bands=("g", "r"),
        deblender="sep",
        photometry="mixture",
        image_pattern="{tile} {band}.fits",
        zeropoint=27.5,
        detect_threshold=4.0,
        seed=3,
    )
    said = resume_command("s3://b/out put", as_json(run_of(config, "my tiles", part="2/4")))
    assert said == (
        "raydeblend catalog 'my tiles' 's3://b/out put' --bands g,r --deblender sep "
        "--photometry mixture --image-pattern '{tile} {band}.fits' --zeropoint 27.5 "
        "--threshold 4.0 --seed 3 --part 2/4 --resume"
    )


def test_every_field_is_an_option_of_the_command():
    parameters = get_command(app).commands["catalog"].params
    options = {name for p in parameters for name in (*p.opts, *p.secondary_opts)}
    named = {
        f.name: f"--{OPTIONS.get(f.name, f.name.replace('_', '-'))}"
        for f in fields(CatalogConfig)
        if f.name not in FOUND
    }
    assert {*named.values(), *SWITCHES.values()} <= options


def test_lists_and_switches_are_said_as_the_command_takes_them():
    config = CatalogConfig(("g",), bad_planes=("BAD", "SAT"), deblend_singles=False)
    said = resume_command("out", as_json(run_of(config)))
    assert said == (
        "raydeblend catalog tiles out --bands g --only-blends --bad-planes BAD,SAT --resume"
    )


def test_counts_come_first_then_ten_examples_of_each_kind_then_a_command_a_part():
    config = CatalogConfig(bands=("g",))
    failed = tuple(Problem("cells that failed", f"cell {i} failed") for i in range(38))
    runs = [
        RunVerdict("a", as_json(run_of(config, part="1/2")), CellCounts(2, 38, 0), failed),
        RunVerdict("b", as_json(run_of(config, part="2/2")), CellCounts(2, 0, 1), ()),
    ]
    together = (Problem("parts", "part 2/2 is odd"),)
    assert list(verdict_lines(Verdict(tuple(runs), together))) == [
        "a: 2 cells done, 38 failed, 0 missing",
        "b: 2 cells done, 0 failed, 1 missing",
        *(f"cell {i} failed" for i in range(10)),
        "and 28 more cells that failed",
        "part 2/2 is odd",
        "do the rest with",
        "  raydeblend catalog tiles a --bands g --part 1/2 --resume",
        "  raydeblend catalog tiles b --bands g --part 2/2 --resume",
        "as parts of a Slurm array: --array=1,2",
    ]


def test_verify_ends_with_one_if_no_tile_could_be_planned(tmp_path):
    out, plan = str(tmp_path), plan_survey([], 100, 20)
    config = CatalogConfig(bands=("g",))
    write_plan(out, plan.to_table())
    write_run(out, as_json(run_of(config, **describe_plan(plan))))
    write_entry(out, LedgerEntry("t", "", "failed", reason="no WCS"))
    done = CliRunner().invoke(app, ["verify", out])
    assert done.exit_code == 1
    assert done.output.startswith("0 cells done, 1 failed, 0 missing")
    assert f"catalog tiles {out} --bands g --resume" in done.output
