"""Sources of known flux drawn into copies of a survey's pixels, and what becomes of them."""
