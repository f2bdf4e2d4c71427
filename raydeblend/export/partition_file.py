"""The files of one partition and of its margin, made from the shards with rows for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydeblend import catalog, storage, tables
from raydeblend.export.partitions import COUNTED, Partition, margin_pixels, to_order
from raydeblend.pipeline.shards import read_shard

HEALPIX = "_healpix_29"
PRIMARY = "is_primary"
SORTED_BY = (HEALPIX, "source_id")
PER_FOLDER = 10_000
"""Number of partitions in a folder, as HATS prescribes."""

Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class ShardReader:
    """Reads the rows to export of a shard.

    Attributes
    ----------
    bands
        Of the catalog.
    all_rows
        Whether copies of a source in overlapping tiles are kept.
    """

    bands: tuple[str, ...]
    all_rows: bool

    @cached_property
    def columns(self) -> pa.Schema:
        """The columns of a shard."""
        return catalog.schema(self.bands)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of a partition's file."""
        healpix = pa.schema([(HEALPIX, pa.int64())])
        return pa.unify_schemas([healpix, self.columns])

    def count(self, paths: Sequence[str]) -> list[tuple[Int64Array, Int64Array]]:
        """Return the pixels of order `COUNTED` with rows of each shard, and their numbers of rows.

        Raises
        ------
        pyarrow.ArrowInvalid, OSError
            If a shard cannot be read.
        """
        return [self._count(path) for path in paths]

    def _count(self, path: str) -> tuple[Int64Array, Int64Array]:
        rows = self._rows(path, ["ra", "dec", PRIMARY])
        pixels, n = np.unique(to_order(healpix_of(rows), COUNTED), return_counts=True)
        return pixels, n.astype(np.int64)

    def read(self, path: str) -> pa.Table:
        """Return the rows of a shard, and the pixel of order 29 that each lies in."""
        rows = self._rows(path)
        return rows.add_column(0, HEALPIX, pa.array(healpix_of(rows)))

    def _rows(self, path: str, columns: list[str] | None = None) -> pa.Table:
        columns = columns or self.columns.names
        try:
            table = read_shard(path, columns)
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(f"{path} cannot be read: {error}") from error
        if not self.all_rows:
            table = table.filter(pc.field(PRIMARY))
        fields = [self.columns.field(name) for name in columns]
        return table.select(columns).cast(pa.schema(fields))


def healpix_of(rows: pa.Table) -> Int64Array:
    """Return the HEALPix pixels of order 29, nested, of rows."""
    from hats.pixel_math import compute_spatial_index

    ra, dec = (rows[name].to_numpy() for name in ("ra", "dec"))
    return np.asarray(compute_spatial_index(ra, dec), np.int64)


@dataclass(frozen=True)
class PartitionJob:
    """A partition to write.

    Attributes
    ----------
    partition
        One with rows, or a neighbor of those that has only a margin.
    n_rows
        How many it has.
    shards
        Paths of those with rows for it or for its margin.
    """

    partition: Partition
    n_rows: int
    shards: tuple[str, ...]


@dataclass(frozen=True)
class PartitionWriter:
    """Writes the files of partitions.

    Attributes
    ----------
    reader
        Of the shards.
    catalog, margin
        Folders of the HATS catalog and of its margin cache.
    margin_order
        Of the pixels around a partition that are its margin.
    """

    reader: ShardReader
    catalog: str
    margin: str
    margin_order: int

    def write(self, job: PartitionJob) -> int:
        """Write a partition and its margin, whole or not at all; return the rows of the margin.

        The margin comes first: where the partition is, both are.

        Raises
        ------
        pyarrow.ArrowInvalid, OSError
            If a shard cannot be read.
        ValueError
            If the partition has other rows than were counted.
        """
        own, around = self._collect(job)
        if len(own) != job.n_rows:
            raise ValueError(f"{len(own)} rows instead of {job.n_rows} in {job.partition}")
        for folder, rows in ((self.margin, around), (self.catalog, own)):
            if len(rows):
                storage.write_bytes(partition_path(folder, job.partition), to_file(rows))
        return len(around)

    def _collect(self, job: PartitionJob) -> tuple[pa.Table, pa.Table]:
        first, end = job.partition.range
        border = margin_pixels(job.partition, self.margin_order)
        own, around = [self.reader.schema.empty_table()], [self.reader.schema.empty_table()]
        for path in job.shards:
            rows = self.reader.read(path)
            pixels = rows[HEALPIX].to_numpy()
            inside = (pixels >= first) & (pixels < end)
            beside = np.isin(to_order(pixels, self.margin_order), border)
            for group, chosen in ((own, inside), (around, beside)):
                if chosen.any():
                    group.append(rows.filter(pa.array(chosen)))
        return pa.concat_tables(own), pa.concat_tables(around)


def partition_path(folder: str, partition: Partition) -> str:
    """Return where the file of a partition lies in a HATS catalog."""
    first = partition.pixel // PER_FOLDER * PER_FOLDER
    places = (f"Norder={partition.order}", f"Dir={first}", f"Npix={partition.pixel}.parquet")
    return storage.join(folder, "dataset", *places)


def partition_of(path: str) -> Partition:
    """Return the partition of a `partition_path`."""
    order, _, name = PurePosixPath(path).parts[-3:]
    return Partition(int(order.removeprefix("Norder=")), int(name[5:].removesuffix(".parquet")))


def to_file(rows: pa.Table) -> bytes:
    """Return the rows of a partition, sorted, as a Parquet file encoded as by hats."""
    from hats.io.file_io import get_parquet_write_table_kwargs

    rows = rows.sort_by([(name, "ascending") for name in SORTED_BY])
    # The level of compression that hats takes needs thrice the time for a tenth of the size.
    options = get_parquet_write_table_kwargs(
        rows.schema, write_table_kwargs={"compression": tables.COMPRESSION}
    )
    return tables.sorted_parquet(rows, SORTED_BY, **options)
