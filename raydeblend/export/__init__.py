"""A finished catalog in the formats of other tools."""
