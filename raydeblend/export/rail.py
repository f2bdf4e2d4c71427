"""A catalog for photometric redshift codes: magnitudes, their errors, non-detections.

The layout is that of RAIL's defaults: columns ``mag_<band>_lsst`` and ``mag_err_<band>_lsst``, and
99 in both where a source is not detected.  Beside the table lies a YAML file of the shared
parameters by which RAIL's stages read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from raydeblend import storage, tables
from raydeblend.draw.maps import DETECTION, depth
from raydeblend.errors import ConfigError
from raydeblend.export.rows import rows_for
from raydeblend.survey import NJY_ZERO_POINT

NOT_DETECTED = 99.0
MAGNITUDE, ERROR = "mag_{}_lsst", "mag_err_{}_lsst"
REFERENCE = "i"
KEPT = ("source_id", "ra", "dec", "n_blended", "blendedness", "p_star", "flags")
"""Columns that keep their names; RAIL ignores them."""

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class RailConfig:
    """How a catalog is exported.

    Attributes
    ----------
    all_rows
        Whether the copies of sources in overlapping tiles are exported too.
    least_snr
        A flux of fewer errors than this is not detected.
    """

    all_rows: bool = False
    least_snr: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.least_snr < np.inf:
            raise ConfigError(f"--least-snr must be a number above 0, not {self.least_snr:g}")


def export_rail(
    outs: str | Sequence[str],
    target: str,
    config: RailConfig | None = None,
    *,
    overwrite: bool = False,
) -> int:
    """Write magnitudes to one Parquet file, with RAIL's parameters next to it; return the rows.

    Parameters
    ----------
    outs
        The catalog, or several parts of a survey.
    target
        Local or on s3; its name ends in ``.parquet``.

    Raises
    ------
    ConfigError
        See `raydeblend.export.rows.rows_for`; or if the name does not end so.
    """
    config = RailConfig() if config is None else config
    if not target.endswith(".parquet"):
        raise ConfigError(f"the table for RAIL is a Parquet file: {target} must end in .parquet")
    paths = [target, target.removesuffix(".parquet") + ".yaml"]
    source, rows = rows_for(paths, outs, all_rows=config.all_rows, overwrite=overwrite)
    bands = source.run.bands
    storage.write_bytes(paths[0], tables.to_parquet(to_magnitudes(rows, bands, config.least_snr)))
    said = yaml.safe_dump(parameters(rows, bands), sort_keys=False)
    storage.write_bytes(paths[1], said.encode())
    return int(rows.num_rows)


def to_magnitudes(rows: pa.Table, bands: Sequence[str], least_snr: float) -> pa.Table:
    """Return the columns `KEPT` and for each band the AB magnitude and its error.

    `NOT_DETECTED` in both where the flux is below `least_snr` errors; NaN in both where the band
    was not measured.
    """
    table = rows.select(KEPT)
    for band in bands:
        flux, error = (_numbers(rows, f"flux{part}_{band}") for part in ("", "_err"))
        magnitude, sigma = magnitudes(flux, error, least_snr)
        missing = f"{NOT_DETECTED:g} where it is not detected"
        table = _append(
            table, MAGNITUDE.format(band), f"AB magnitude in {band}; {missing}", magnitude
        )
        table = _append(table, ERROR.format(band), f"its standard error; {missing}", sigma)
    return table.cast(tables.described(table.schema))


def _append(table: pa.Table, name: str, description: str, values: Float64Array) -> pa.Table:
    metadata = {"unit": "mag", "description": description}
    return table.append_column(pa.field(name, pa.float64(), metadata=metadata), pa.array(values))


def _numbers(rows: pa.Table, name: str) -> Float64Array:
    return np.asarray(rows[name].to_numpy(), dtype=np.float64)


def magnitudes(
    flux: Float64Array, error: Float64Array, least_snr: float
) -> tuple[Float64Array, Float64Array]:
    """Return AB magnitudes and errors ``(n,)`` of fluxes ``(n,)`` in nJy; see `to_magnitudes`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        detected = flux >= least_snr * error
        magnitude = NJY_ZERO_POINT - 2.5 * np.log10(flux)
        sigma = 2.5 / np.log(10) * error / flux
    measured = np.isfinite(flux) & (error > 0)
    missing = np.where(measured, NOT_DETECTED, np.nan)
    seen = measured & detected
    return np.where(seen, magnitude, missing), np.where(seen, sigma, missing)


def parameters(rows: pa.Table, bands: Sequence[str]) -> Mapping[str, Any]:
    """Return RAIL's shared parameters for the table, with one-sigma limits."""
    names = {band: MAGNITUDE.format(band) for band in bands}
    return {
        "hdf5_groupname": "",
        "object_id_col": "source_id",
        "bands": list(names.values()),
        "err_bands": [ERROR.format(band) for band in bands],
        "ref_band": names[REFERENCE if REFERENCE in bands else bands[-1]],
        "nondetect_val": NOT_DETECTED,
        "mag_limits": {name: limit(rows, band) for band, name in names.items()},
    }


def limit(rows: pa.Table, band: str) -> float:
    """Return the magnitude of a one-sigma source in a band; NaN without a flux error."""
    return round(depth(rows, band) + 2.5 * float(np.log10(DETECTION)), 3)
