"""What protocols share: blends with truth, metrics, intervals, tables, figures, provenance."""
