"""Deblenders that take off one galaxy after the other, and what finishes their models."""
