"""Evaluation: test sets of the papers, metrics, matching, tables and figures."""
