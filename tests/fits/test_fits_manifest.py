from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from tile_files import complete, write

from raydeblend.errors import ConfigError
from raydeblend.fits import find_tiles
from raydeblend.fits.manifest import (
    changed_tiles,
    read_manifest,
    to_manifest,
    write_manifest,
)

BANDS = ("g", "r")


@pytest.fixture
def tiles(tmp_path):
    for tile in "ab":
        for seed, band in enumerate(BANDS):
            write(tmp_path, f"{tile}_{band}.fits", complete(seed))
    return str(tmp_path)


def manifest_of(tiles, name="tiles.parquet"):
    """Write the manifest of a folder's tiles; returns it, its path and the headers."""
    headers, _ = find_tiles(tiles, BANDS)
    table, path = to_manifest(headers), f"{tiles}/{name}"
    write_manifest(path, table)
    return table, path, headers


def test_a_manifest_with_headers_stands_for_the_files(tiles):
    _, path, headers = manifest_of(tiles)
    for file in Path(tiles).glob("*.fits"):
        file.unlink()
    again, failures = find_tiles(tiles, BANDS, manifest=path)
    assert failures == []
    assert again == headers


def test_what_a_manifest_says_of_a_file_is_what_the_file_says(tiles):
    table, _, _ = manifest_of(tiles)
    row = table.to_pylist()[0]
    with fits.open(row["image"]) as hdus:
        image = hdus["IMAGE"] if "IMAGE" in hdus else hdus[1]
        assert (row["rows"], row["columns"]) == image.shape
        ours, theirs = WCS(fits.Header.fromstring(row["wcs"])), WCS(image.header, naxis=2)
    xy = np.array([[3.0, 4], [20, 11]])
    np.testing.assert_allclose(
        ours.wcs_pix2world(xy, 0), theirs.wcs_pix2world(xy, 0), rtol=0, atol=1e-9
    )
    assert row["stamp"].startswith(f"{Path(row['image']).stat().st_size}:")


def test_files_without_headers_in_the_manifest_are_opened(tiles):
    table, _, headers = manifest_of(tiles)
    half = table.to_pylist()
    half[0] |= {"rows": None, "stamp": None}
    path = f"{tiles}/half.parquet"
    pq.write_table(pa.Table.from_pylist(half, schema=table.schema), path)
    assert find_tiles(tiles, BANDS, manifest=path)[0] == headers
    bare = f"{tiles}/bare.parquet"
    pq.write_table(table.select(["tile", "band", "image"]), bare)
    assert find_tiles(tiles, BANDS, manifest=bare)[0] == headers


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": 12}, "bands differ in shape"),
        ({"wcs": "CTYPE1  = 'RA---TAN'"}, "bad WCS|not on one pixel grid|no celestial"),
    ],
)
def test_a_manifest_that_contradicts_itself_fails_the_tile(tiles, change, said):
    table, path, _ = manifest_of(tiles)
    rows = table.to_pylist()
    rows[1] |= change
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    headers, (failure,) = find_tiles(tiles, BANDS, manifest=path)
    assert [header.name for header in headers] == ["b"]
    assert failure.name == "a"
    assert any(part in failure.reason for part in said.split("|"))


def test_changed_tiles_are_those_whose_files_changed_or_went(tiles):
    table, _, headers = manifest_of(tiles)
    assert changed_tiles(table, table) == []
    other = replace(headers[1].files[0], stamp="1:2")
    changed = [headers[0], replace(headers[1], files=(other, *headers[1].files[1:]))]
    assert changed_tiles(table, to_manifest(changed)) == ["b"]
    assert changed_tiles(table, to_manifest(headers[:1])) == ["b"]
    # More tiles than before are no change, nor is a stamp that is not known.
    assert changed_tiles(to_manifest(headers[:1]), table) == []
    unknown = replace(headers[1].files[0], stamp="")
    changed[1] = replace(headers[1], files=(unknown, *headers[1].files[1:]))
    assert changed_tiles(table, to_manifest(changed)) == []


def test_a_name_too_long_for_a_path_is_refused(tiles):
    table, path, _ = manifest_of(tiles)
    named = table.set_column(0, "tile", pa.array(["x" * 250] * len(table))).slice(0, 1)
    write_manifest(path, named)
    with pytest.raises(ConfigError, match="too long: a path takes 200 bytes, this one needs 250"):
        find_tiles(tiles, BANDS, manifest=path)
    assert set(read_manifest(tiles, path, BANDS)) == {"x" * 250}
