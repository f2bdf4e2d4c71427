"""Joint distributions of galaxies' properties, as Gaussian mixtures that are conditioned on.

The mixtures are shipped with the package (``cosmos.parquet``, ``catsim.parquet``; the card beside
them says of what they are and how they were fitted).  They hold no galaxy of the catalogs, only
means and covariances, so that every draw is a new galaxy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend import tables

FloatArray = NDArray[np.float64]

PACKAGE = "raydeblend.simulate.population"


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture of ``k`` components in ``d`` named properties.

    Attributes
    ----------
    names
        Of the properties, in the order of the axes below.
    weights
        ``(k,)``, summing to 1.
    means
        ``(k, d)``.
    covariances
        ``(k, d, d)``.
    """

    names: tuple[str, ...]
    weights: FloatArray
    means: FloatArray
    covariances: FloatArray

    def draw(
        self, known: Mapping[str, FloatArray], wanted: Sequence[str], rng: np.random.Generator
    ) -> dict[str, FloatArray]:
        """Draw the properties `wanted` of galaxies whose `known` ones are given.

        A component is chosen by how well it explains what is known, the rest is normal within
        it (Bishop 2006, equations 2.81 and 2.82).

        Parameters
        ----------
        known
            By name, each ``(n,)``; at least one.

        Returns
        -------
        drawn
            By name, each ``(n,)``.
        """
        a, b = ([self.names.index(name) for name in part] for part in (tuple(known), wanted))
        given = np.stack([np.asarray(values, dtype=np.float64) for values in known.values()], 1)
        chosen = self._choose(given, a, rng)
        normal = rng.standard_normal((len(given), len(b)))
        values = np.empty_like(normal)
        for k in np.unique(chosen):
            rows = chosen == k
            cov = self.covariances[k]
            gain = np.linalg.solve(cov[np.ix_(a, a)], cov[np.ix_(a, b)]).T
            left = cov[np.ix_(b, b)] - gain @ cov[np.ix_(a, b)]
            mean = self.means[k, b] + (given[rows] - self.means[k, a]) @ gain.T
            values[rows] = mean + normal[rows] @ np.linalg.cholesky(left).T
        return {name: values[:, i] for i, name in enumerate(wanted)}

    def _choose(
        self, given: FloatArray, axes: Sequence[int], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return ``(n,)`` components drawn by their probability given `given` ``(n, a)``."""
        log_p = np.empty((len(given), len(self.weights)))
        for k, (weight, mean, cov) in enumerate(
            zip(self.weights, self.means, self.covariances, strict=True)
        ):
            part = cov[np.ix_(axes, axes)]
            away = given - mean[list(axes)]
            chi2 = np.einsum("na,na->n", away, np.linalg.solve(part, away.T).T)
            log_p[:, k] = np.log(weight) - 0.5 * (chi2 + np.linalg.slogdet(part)[1])
        p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        cumulative = np.cumsum(p, axis=1)
        target = rng.random((len(given), 1)) * cumulative[:, -1:]
        return np.asarray((cumulative < target).sum(axis=1))

    def to_table(self) -> pa.Table:
        """Return a row for each component: its weight, means, and covariances by pair of names."""
        columns = {"weight": self.weights}
        for i, name in enumerate(self.names):
            columns[f"mean {name}"] = self.means[:, i]
        for i, name in enumerate(self.names):
            for j, other in enumerate(self.names[: i + 1]):
                columns[f"cov {name} {other}"] = self.covariances[:, i, j]
        return pa.table(columns)

    @staticmethod
    def from_table(table: pa.Table) -> Mixture:
        """Return the mixture of `to_table`."""
        names = tuple(n.removeprefix("mean ") for n in table.column_names if n.startswith("mean "))
        cov = np.empty((table.num_rows, len(names), len(names)))
        for i, name in enumerate(names):
            for j, other in enumerate(names[: i + 1]):
                cov[:, i, j] = cov[:, j, i] = table[f"cov {name} {other}"].to_numpy()
        means = np.stack([table[f"mean {name}"].to_numpy() for name in names], axis=1)
        return Mixture(names, table["weight"].to_numpy(), means, cov)


@cache
def load_mixture(name: str) -> Mixture:
    """Return a shipped mixture, ``cosmos`` or ``catsim``."""
    path = files(PACKAGE) / f"{name}.parquet"
    return Mixture.from_table(tables.from_parquet(path.read_bytes()))
