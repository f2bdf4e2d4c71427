"""Comparisons behind decisions that are made: ``python -m benchmarks.studies.sersic``."""
