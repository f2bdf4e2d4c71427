"""Blends of many sources: everything is done among near ones, the others' light held."""
