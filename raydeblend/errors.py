"""The errors a user can cause, each said in one sentence that names what is valid."""


class ConfigError(ValueError):
    """An argument or a whole input that cannot be used; found before any work (exit code 2)."""


class TileError(ValueError):
    """One tile or cell that cannot be used; it becomes a ledger entry, the run goes on."""


class TrainingError(RuntimeError):
    """A training run that cannot go on (exit code 1)."""


class NoDataError(TileError):
    """A region of which the masks say themselves that it holds no usable pixel in any band."""
