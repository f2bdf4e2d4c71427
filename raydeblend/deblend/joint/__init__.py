"""The joint deblender: all sources of a blend fitted at once, their number decided by evidence."""
