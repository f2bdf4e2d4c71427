"""The protocol `survey`: simulated tiles through the whole pipeline."""
