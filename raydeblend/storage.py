"""Files on local disk and on s3, by the same functions: a path is a string, ``s3://…`` or local.

Writes are atomic: a reader sees the whole object or none.  s3 is reached through s3fs, with
credentials and endpoint from the usual AWS variables (``AWS_ENDPOINT_URL`` included).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import IO

import fsspec
import s3fs
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)
from fsspec.implementations.local import LocalFileSystem

from raydeblend.errors import ConfigError

READ_ERRORS = (OSError, BotoCoreError, ClientError)
"""What reading or writing a path can raise when the file, the disk or the network fails."""

S3_PREFIX = "s3://"
# A FITS header is a few blocks of 2880 bytes; pixels are read in one request whatever this is.
BLOCK_SIZE = 64 * 1024


def is_s3(path: str) -> bool:
    """Tell whether the path lies on s3."""
    return path.startswith(S3_PREFIX)


def make_filesystem(path: str) -> fsspec.AbstractFileSystem:
    """Return the fsspec filesystem that serves `path`, without cached listings."""
    if not is_s3(path):
        return LocalFileSystem()
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return _s3_filesystem(os.getpid(), settings)


@lru_cache(maxsize=8)
def _s3_filesystem(process: int, settings: tuple[tuple[str, str], ...]) -> s3fs.S3FileSystem:
    # One client per process and per set of AWS variables: s3fs's own cache knows neither, so
    # that a forked worker or changed credentials would meet a stale client.
    return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)


def join(root: str, *parts: str) -> str:
    """Join path parts with single slashes."""
    return "/".join([root.rstrip("/"), *parts])


def absolute(path: str) -> str:
    """Return a local path from the root directory, since workers run in other directories."""
    return path if is_s3(path) else os.path.abspath(path)


def exists(path: str) -> bool:
    """Tell whether `path` is a file or a directory (on s3: an object or a prefix of one)."""
    return bool(make_filesystem(path).exists(path))


def list_files(prefix: str, suffix: str = "") -> list[str]:
    """List the files below `prefix`, at any depth, whose names end in `suffix`, sorted.

    Local paths come back absolute, those on s3 with ``s3://``.  A missing prefix has no files.
    """
    filesystem = make_filesystem(prefix)
    found = filesystem.find(absolute(prefix))
    return sorted(_full(prefix, path) for path in found if path.endswith(suffix))


def _full(prefix: str, path: str) -> str:
    return S3_PREFIX + path if is_s3(prefix) else path


def read_bytes(path: str) -> bytes:
    """Return the whole content of a file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    return bytes(make_filesystem(path).cat_file(path))


def write_bytes(path: str, data: bytes) -> None:
    """Write a file atomically; it replaces one of the same name.

    Locally a temporary name and ``os.replace``, parents are made; on s3 one put, which is
    invisible until complete.
    """
    if is_s3(path):
        make_filesystem(path).pipe_file(path, data)
        return
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # A name of its own for each writer, since a lost worker may still write the same file.
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(temporary)


def open_file(path: str) -> IO[bytes]:
    """Open a file for reading at random positions; on s3 only what is read is fetched."""
    if not is_s3(path):
        return open(path, "rb")
    file: IO[bytes] = make_filesystem(path).open(path, "rb", block_size=BLOCK_SIZE)
    return file


def remove_tree(path: str) -> None:
    """Remove a directory or all objects below a prefix; nothing happens if there is none."""
    filesystem = make_filesystem(path)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def check_readable(root: str) -> None:
    """Check that `root` exists and can be listed.

    Raises
    ------
    ConfigError
        One sentence: no such file or directory, bucket, credentials or server.
    """
    with _as_config_error(root, "read"):
        if is_s3(root):
            # Asked directly, since s3fs takes a missing bucket for a missing file.
            make_filesystem(root).call_s3("list_objects_v2", Bucket=_bucket(root), MaxKeys=1)
        if not exists(root):
            raise ConfigError(f"{root} does not exist")
        if not is_s3(root) and not os.access(root, os.R_OK):
            raise ConfigError(f"{root} may not be read by this user")


def check_writable(root: str) -> None:
    """Check that files can be written below `root`, by writing one.

    Raises
    ------
    ConfigError
        One sentence: not a directory, no permission, bucket, credentials or server.
    """
    probe = join(root, f".raydeblend-probe-{uuid.uuid4().hex}")
    with _as_config_error(root, "write"):
        write_bytes(probe, b"")
        make_filesystem(probe).rm_file(probe)


def _bucket(path: str) -> str:
    return path.removeprefix(S3_PREFIX).split("/")[0]


@contextmanager
def _as_config_error(path: str, verb: str) -> Iterator[None]:
    if is_s3(path) and not _bucket(path):
        raise ConfigError(f"{path} names no bucket; write s3://bucket/prefix")
    try:
        yield
    except ConfigError:
        raise
    except (*READ_ERRORS, ValueError) as error:  # botocore's word for a malformed endpoint
        raise ConfigError(f"cannot {verb} {path}: {_explain(path, error)}") from error


def _explain(path: str, error: Exception) -> str:
    if not is_s3(path):
        return str(getattr(error, "strerror", None) or error)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "no s3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, EndpointConnectionError):
        return f"no s3 server answers at {os.environ.get('AWS_ENDPOINT_URL', 'the AWS endpoint')}"
    if isinstance(error, PermissionError):
        return f"the s3 server refused the credentials ({error})".rstrip(".")
    if isinstance(error, FileNotFoundError):
        return f"there is no bucket {_bucket(path)!r}"
    return str(error)
