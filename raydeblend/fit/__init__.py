"""Galaxy models and their fits: no search for sources, no catalog."""
