"""The metadata of a HATS collection, written by hats once the partitions are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from raydeblend import storage, tables
from raydeblend.export.partition_file import HEALPIX, SORTED_BY, ShardReader
from raydeblend.export.partitions import BASE_PIXELS, COUNTED, FINEST, Counts, Partition

if TYPE_CHECKING:
    from upath import UPath

Properties = Mapping[str, object]


def hats_path(path: str) -> UPath:
    """Return a path for hats, which would otherwise access s3 without credentials."""
    from upath import UPath

    return UPath(path, anon=False) if storage.is_s3(path) else UPath(path)


def finish_catalog(
    folder: str, partitions: Sequence[Partition], counts: Counts, most: int, more: Properties
) -> int:
    """Write the metadata of the main catalog; return its number of rows, counted in the files."""
    from hats.io import file_io, paths
    from hats.io.parquet_metadata import write_parquet_metadata
    from hats.io.skymap import write_skymap

    path = hats_path(folder)
    n_rows = int(write_parquet_metadata(path))
    skymap = _skymap(counts)
    file_io.write_fits_image(skymap, paths.get_point_map_file_pointer(path))
    write_skymap(histogram=skymap, catalog_dir=path, orders=None)
    said = {"catalog_type": "object", "hats_cols_sort": SORTED_BY[1], "hats_max_rows": most}
    said |= {"hats_skymap_order": COUNTED}
    _finish(folder, partitions, n_rows, {**said, **more})
    return n_rows


def _skymap(counts: Counts) -> np.ndarray[Any, np.dtype[np.int64]]:
    pixels, rows = counts.histogram()
    skymap = np.zeros(BASE_PIXELS * 4**COUNTED, dtype=np.int64)
    skymap[pixels] = rows
    return skymap


def finish_margin(
    folder: str,
    partitions: Sequence[Partition],
    main: str,
    arcsec: float,
    reader: ShardReader,
    more: Properties,
) -> int:
    """Write the metadata of the margin cache; return its number of rows, counted in the files."""
    from hats.io import paths
    from hats.io.parquet_metadata import write_parquet_metadata

    path, n_rows = hats_path(folder), 0
    if partitions:
        n_rows = int(write_parquet_metadata(path))
    else:
        for pointer in (paths.get_common_metadata_pointer, paths.get_parquet_metadata_pointer):
            place = pointer(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(tables.schema_to_parquet(reader.schema))
    said = {"catalog_type": "margin", "primary_catalog": main, "margin_threshold": arcsec}
    _finish(folder, partitions, n_rows, {**said, **more})
    return n_rows


def _finish(folder: str, partitions: Sequence[Partition], n_rows: int, said: Properties) -> None:
    """Write the list of partitions and the properties that main catalog and margin share."""
    from hats.catalog import PartitionInfo, TableProperties
    from hats.io import paths
    from hats.pixel_math.healpix_pixel import HealpixPixel

    path = hats_path(folder)
    info = PartitionInfo.from_healpix([HealpixPixel(p.order, p.pixel) for p in partitions])
    info.write_to_file(paths.get_partition_info_pointer(path))
    properties = {
        "catalog_name": folder.rpartition("/")[2],
        "total_rows": n_rows,
        "ra_column": "ra",
        "dec_column": "dec",
        "hats_col_healpix": HEALPIX,
        "hats_col_healpix_order": FINEST,
        "hats_npix_suffix": ".parquet",
        "hats_order": max((p.order for p in partitions), default=0),
        "moc_sky_fraction": f"{sum(1 / (BASE_PIXELS * 4**p.order) for p in partitions):0.5f}",
    }
    TableProperties(**properties, **_provenance(folder, said)).to_properties_file(path)


def finish_collection(target: str, main: str, margin: str, more: Properties) -> None:
    """Write the contents of the collection."""
    from hats.catalog.dataset.collection_properties import CollectionProperties

    said = {"hats_primary_table_url": main, "all_margins": [margin], "default_margin": margin}
    properties = _provenance(target, {"name": target.rpartition("/")[2], **said, **more})
    CollectionProperties(**properties).to_properties_file(hats_path(target))


def _provenance(folder: str, said: Properties) -> dict[str, Any]:
    from hats.catalog import TableProperties

    from raydeblend import __version__

    builder = f"raydeblend v{__version__}"
    found: dict[str, Any] = TableProperties.new_provenance_dict(
        hats_path(folder), builder=builder, **said
    )
    return found
