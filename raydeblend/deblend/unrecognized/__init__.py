"""The probability that a source hides another one."""
