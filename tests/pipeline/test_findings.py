"""Suspect cells, counted by what was found."""

from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.entry_tables import to_table
from raydeblend.pipeline.findings import SHOWN, Findings, finding_lines
from raydeblend.pipeline.summary import Totals, summary_lines

NARROW = "the PSF of band i is {}% broader than its sources say"
ENTRIES = [
    LedgerEntry("t", "a", "done", suspect=NARROW.format(9)),
    LedgerEntry("t", "b", "done", suspect=f"band r has no data; {NARROW.format(11)}"),
    LedgerEntry("t", "c", "done"),
]


def test_findings_alike_but_for_numbers_are_one_kind():
    findings = Findings()
    findings.add_ledger(to_table(ENTRIES[:2]))
    findings.add_entry(ENTRIES[2])
    assert findings.n_cells == 2
    first, second = findings.ranked()
    assert (first.text, first.n, first.cell) == (NARROW.format(9), 2, "a")
    assert (second.text, second.n, second.cell) == ("band r has no data", 1, "b")


def test_a_summary_says_what_was_found_before_and_in_this_run():
    totals = Totals(to_table(ENTRIES[:1]))
    totals.add_all(ENTRIES[1:])
    summary = totals.summarize("out", 1.0)
    assert summary.n_suspect == 2
    lines = list(summary_lines(summary))
    at = lines.index("2 of 3 cells are suspect:")
    assert lines[at + 1] == f"  t a: {NARROW.format(9)} (and 1 like it)"
    assert lines[at + 2] == "  t b: band r has no data"


def test_a_clean_run_says_nothing_of_it():
    assert list(finding_lines((), 0, 5)) == []


def test_a_screen_does_not_overflow():
    findings = Findings()
    for letter in "abcdefghijkl":
        findings.add("t", letter, f"band {letter} has no data")
    lines = list(finding_lines(findings.ranked(), 12, 12))
    assert len(lines) == SHOWN + 2
    assert lines[-1] == f"  and {12 - SHOWN} other findings, in the ledger"
