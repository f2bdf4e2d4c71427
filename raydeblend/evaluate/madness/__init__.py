"""The protocol of MADNESS (Biswas et al. 2025): crowded fields."""
