"""What a protocol is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.tables import Table

BASELINE = "sep"
"""The deblender that every protocol compares with."""


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, as the command line says it.

    Attributes
    ----------
    protocol
        Its name.
    deblenders
        By name; None where none is given.
    data, n, catalog, bands, survey, population, stamps, weights
        See `raydeblend.evaluate.protocol.run_evaluation`; None where not given.
    out
        Directory of the results, local or on s3.
    """

    protocol: str
    deblenders: tuple[str, ...] | None
    data: str | None
    n: int | None
    out: str
    seed: int = 0
    catalog: str | None = None
    bands: int | None = None
    survey: str | None = None
    population: str | None = None
    stamps: str | None = None
    weights: str | None = None

    @property
    def chosen(self) -> tuple[str, ...]:
        """The deblenders, joint where none is given."""
        return ("joint",) if self.deblenders is None else self.deblenders

    @property
    def compared(self) -> tuple[str, ...]:
        """The deblenders, with sep among them."""
        return tuple(dict.fromkeys([*self.chosen, BASELINE]))

    @property
    def own_weights(self) -> dict[str, str]:
        """The weights to load by deblender, where they are not the shipped ones."""
        return {} if self.weights is None else {self.chosen[0]: self.weights}

    @property
    def given(self) -> dict[str, str | int | tuple[str, ...]]:
        """The values of the options that differ from leaving them out."""
        values = {
            "deblender": self.deblenders or None,
            "data": self.data,
            "n": self.n,
            "catalog": self.catalog,
            "bands": self.bands,
            "seed": self.seed or None,
            "survey": self.survey,
            "population": self.population,
            "stamps": self.stamps,
            "weights": self.weights,
        }
        return {name: value for name, value in values.items() if value is not None}

    def needed_data(self, what: str) -> str:
        """Return `data` of a protocol that draws nothing itself.

        Raises
        ------
        ConfigError
            If there is none.
        """
        if self.data is None:
            raise ConfigError(f"this protocol needs {what}; name it with --data")
        return self.data

    def command(self) -> list[str]:
        """Return the words of the command that runs this evaluation."""
        words = ["raydeblend", "evaluate", self.protocol]
        for name, value in self.given.items():
            for each in value if isinstance(value, tuple) else (value,):
                words += [f"--{name}", str(each)]
        return [*words, "--out", self.out]


@dataclass(frozen=True)
class Report:
    """The rows of ``metrics.json``, the tables, and the other files by name."""

    rows: Sequence[Mapping[str, str | int | float]]
    tables: Sequence[Table]
    files: Mapping[str, bytes]
