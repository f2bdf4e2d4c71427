"""Files on local disk and on s3, by the same functions: a path is a string, ``s3://…`` or local.

Writes are atomic: a reader sees the whole object or none.  s3 is reached through s3fs, with
credentials and endpoint from the usual AWS variables (``AWS_ENDPOINT_URL`` included); what the
server refuses for a while (500, 503 SlowDown, no connection) is asked again for about a minute.
Neither credentials nor endpoint ever stand in a message: see `explain`.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any
from urllib.parse import urlsplit

import fsspec
import s3fs
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as NoConnectionError,
)
from fsspec.implementations.local import LocalFileSystem

from raydeblend.errors import ConfigError

READ_ERRORS = (OSError, BotoCoreError, ClientError)
"""What reading or writing a path can raise when the file, the disk or the network fails."""
SILENCE = (NoConnectionError, HTTPClientError, TimeoutError)
"""Of these, when no server answers."""

S3_PREFIX = "s3://"
# A FITS header is a few blocks of 2880 bytes; pixels are read in one request whatever this is.
BLOCK_SIZE = 64 * 1024

# botocore waits a random part of 1, 2, 4, ... 20 s between attempts: 12 of them take 75 s on
# average and 150 s at most, so a server that is gone for some 20 to 60 s is outlived.
ATTEMPTS = 12
# Of the checks before any work, for which somebody waits at a terminal: a server that refuses is
# told in 4 s, one that takes a connection and says nothing in 18 s.
CHECK_ATTEMPTS, CHECK_TIMEOUT_S = 3, 5
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 30
# A put first asks whether it may come, and waits for that answer without end: a server that takes
# the connection and is silent would keep a worker for ever.
PUT_TIMEOUT_S = 300
# s3fs repeats on top of botocore what breaks off after the answer has begun; its own default of
# 5 would multiply the times above.
S3FS_ATTEMPTS = 2

# Of a file that is being written; see `write_bytes`.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
SECRETS = ("KEY", "SECRET", "TOKEN", "ENDPOINT", "PASSWORD")
"""Parts of the names of AWS variables that no message may hold the value of."""
URL = re.compile(r"https?://[^\s\"']+")


@dataclass(frozen=True)
class Patience:
    """How long an s3 server is waited for.

    Attributes
    ----------
    attempts, repeats
        Of botocore, and of s3fs around these.
    connect_s, read_s
        Seconds that each of them takes at most.
    """

    attempts: int
    repeats: int
    connect_s: float
    read_s: float


def is_s3(path: str) -> bool:
    """Tell whether the path lies on s3."""
    return path.startswith(S3_PREFIX)


def make_filesystem(path: str) -> fsspec.AbstractFileSystem:
    """Return the fsspec filesystem that serves `path`, without cached listings."""
    return _filesystem(path, Patience(ATTEMPTS, S3FS_ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S))


def _impatient(path: str) -> fsspec.AbstractFileSystem:
    """Return the filesystem of the checks before any work."""
    return _filesystem(path, Patience(CHECK_ATTEMPTS, 1, CHECK_TIMEOUT_S, CHECK_TIMEOUT_S))


def _filesystem(path: str, patience: Patience) -> fsspec.AbstractFileSystem:
    if not is_s3(path):
        return LocalFileSystem()
    return _s3_filesystem(os.getpid(), tuple(sorted(_aws_variables().items())), patience)


def _aws_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


@lru_cache(maxsize=8)
def _s3_filesystem(
    process: int, settings: tuple[tuple[str, str], ...], patience: Patience
) -> s3fs.S3FileSystem:
    # One client per process and per set of AWS variables: s3fs's own cache knows neither, so
    # that a forked worker or changed credentials would meet a stale client.
    config = {
        "retries": {"mode": "standard", "total_max_attempts": patience.attempts},
        "connect_timeout": patience.connect_s,
        "read_timeout": patience.read_s,
    }
    filesystem = s3fs.S3FileSystem(
        skip_instance_cache=True, use_listings_cache=False, config_kwargs=config
    )
    filesystem.retries = patience.repeats
    return filesystem


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

    Local paths come back absolute, those on s3 with ``s3://``.  A missing prefix has no files,
    and hidden files are none: macOS leaves ``._`` files, a killed writer unfinished ones.
    """
    return [path for path in list_stamps(prefix) if path.endswith(suffix)]


def list_stamps(prefix: str) -> dict[str, str]:
    """List the files below `prefix` with the `stamp` of each, from one listing, sorted."""
    found = make_filesystem(prefix).find(absolute(prefix), detail=True)
    start = S3_PREFIX if is_s3(prefix) else ""
    return {
        start + path: _stamp(info)
        for path, info in sorted(found.items())
        if not _is_hidden(path, prefix)
    }


def stamp(path: str) -> str:
    """Return what changes when a file does: its size, and its ETag or time of modification.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    return _stamp(make_filesystem(path).info(absolute(path)))


def _stamp(info: Mapping[str, Any]) -> str:
    return f"{info['size']}:{info.get('ETag') or info.get('mtime')}".replace('"', "")


def _is_hidden(path: str, prefix: str) -> bool:
    """Tell whether a path has a hidden part below `prefix`, such as macOS's ``._`` files."""
    below = path.removeprefix(absolute(prefix).removeprefix(S3_PREFIX))
    return any(part.startswith(".") for part in below.split("/"))


def _is_temporary(path: str) -> bool:
    return TEMPORARY.fullmatch(os.path.basename(path)) is not None


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

    Locally a temporary name and ``os.replace``, parents are made; on s3 one put (of parts, if
    large), which is invisible until complete.
    """
    if is_s3(path):
        make_filesystem(path).pipe_file(path, data, timeout=PUT_TIMEOUT_S)
        return
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # A name of its own for each writer, since a lost worker may still write the same file.
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            # Else a machine that loses power may keep the new name without the content.
            file.flush()
            os.fsync(file.fileno())
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


def remove_temporary(root: str) -> int:
    """Remove what killed writers left unfinished below a local `root`; return how many files.

    Nobody may be writing there.  On s3 there is nothing to remove.
    """
    if is_s3(root):
        return 0
    walk = os.walk(absolute(root))
    left = [os.path.join(folder, name) for folder, _, names in walk for name in names]
    left = [path for path in left if _is_temporary(path)]
    for path in left:
        with suppress(FileNotFoundError):
            os.remove(path)
    return len(left)


def check_readable(root: str) -> None:
    """Check that `root` exists and can be listed.

    Raises
    ------
    ConfigError
        One sentence: no such file or directory, bucket, credentials or server.
    """
    check_answers(root)
    with _as_config_error(root, "read"):
        if not exists(root):
            raise ConfigError(f"{root} does not exist")
        if not is_s3(root) and not os.access(root, os.R_OK):
            raise ConfigError(f"{root} may not be read by this user")


def check_answers(root: str) -> None:
    """Check that the s3 server of `root` answers and has its bucket; nothing on a local disk.

    Raises
    ------
    ConfigError
        One sentence, within some 20 s: no bucket, credentials or server.
    """
    if not is_s3(root):
        return
    with _as_config_error(root, "read"):
        # Asked directly, since s3fs takes a missing bucket for a missing file.
        _impatient(root).call_s3("list_objects_v2", Bucket=_bucket(root), MaxKeys=1)


def check_writable(root: str) -> None:
    """Check that files can be written below `root`, by writing one.

    Raises
    ------
    ConfigError
        One sentence: not a directory, no permission, bucket, credentials or server.
    """
    probe = join(root, f".raydeblend-probe-{uuid.uuid4().hex}")
    with _as_config_error(root, "write"):
        if is_s3(root):
            most = CHECK_ATTEMPTS * CHECK_TIMEOUT_S
            _impatient(probe).pipe_file(probe, b"", timeout=most)
        else:
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
    if isinstance(error, SILENCE):
        return "no s3 server answers at the address that AWS_ENDPOINT_URL or the region gives"
    if isinstance(error, PermissionError):
        return f"the s3 server refused the credentials ({explain(error)})".rstrip(".")
    if isinstance(error, FileNotFoundError):
        return f"there is no bucket {_bucket(path)!r}"
    return explain(error)


def explain(error: BaseException) -> str:
    """Return an error's text without s3 addresses, keys and tokens, fit for ledgers and logs."""
    text = URL.sub("(address)", str(error) or type(error).__name__)
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "(hidden)")
    return text


def _secrets() -> Iterator[str]:
    for name, value in _aws_variables().items():
        if value and any(part in name for part in SECRETS):
            yield value
            address = urlsplit(value)
            # Errors name host and port too, without the scheme.
            yield from (part for part in (address.netloc, address.hostname) if part)
