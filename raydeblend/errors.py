"""The errors a user can cause, each said in one sentence that names what is valid."""


class ConfigError(ValueError):
    """An argument or a whole input that cannot be used; found before any work (exit code 2)."""


class TileError(ValueError):
    """One tile or cell that cannot be used; it becomes a ledger entry, the run goes on."""


class Stopped(BaseException):
    """The command was asked to end, by Ctrl-C or SIGTERM (exit code 128 + `number`).

    No error, so that nothing on the way takes it for one.

    Attributes
    ----------
    number
        Of the signal.
    said
        What is done, and how to go on; empty where nothing was.
    """

    def __init__(self, number: int, said: str = "") -> None:
        super().__init__(said)
        self.number, self.said = number, said


class TrainingError(RuntimeError):
    """A training run that cannot go on (exit code 1)."""


class NoDataError(TileError):
    """A region of which the masks say themselves that it holds no usable pixel in any band."""
