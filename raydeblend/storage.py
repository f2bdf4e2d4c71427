"""Files on local disk and on s3, by the same functions: a path is a string, see `raydeblend.paths`.

Writes are atomic: a reader sees the whole object or none.  s3 is reached through s3fs, with
credentials and endpoint from the usual AWS variables (``AWS_ENDPOINT_URL`` included); what the
server refuses for a while (500, 503 SlowDown, no connection) is asked again for about a minute.
Neither credentials nor endpoint ever stand in a message: see `explain`.  A file is removed by its
own name alone: no function takes a pattern, and none expands one.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import IO, Any
from urllib.parse import urlsplit

import fsspec
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    HTTPClientError,
)
from botocore.exceptions import (
    ConnectionError as NoConnectionError,
)

from raydeblend.filesystems import RetryPolicy, aws_variables, open_filesystem
from raydeblend.paths import S3_PREFIX, absolute, bucket_of, is_local, is_s3, parent, scheme_of

__all__ = ["absolute", "is_local", "is_s3", "parent"]

READ_ERRORS = (OSError, BotoCoreError, ClientError)
"""What reading or writing a path can raise when the file, the disk or the network fails."""
NO_ANSWER = (NoConnectionError, HTTPClientError, TimeoutError)
"""Of these, when no server answers."""

# A FITS header is a few blocks of 2880 bytes; pixels are read in one request whatever this is.
BLOCK_SIZE = 64 * 1024

# botocore waits a random part of 1, 2, 4, ... 20 s between attempts: 12 of them take 75 s on
# average and 150 s at most, so a server that is gone for some 20 to 60 s is outlived.
ATTEMPTS = 12
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
MOST_AT_ONCE = 1000
"""Objects that one request to s3 may remove."""


def make_filesystem(path: str) -> fsspec.AbstractFileSystem:
    """Return the fsspec filesystem that serves `path`, without cached listings."""
    return open_filesystem(
        path, RetryPolicy(ATTEMPTS, S3FS_ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    )


def join(root: str, *parts: str) -> str:
    """Join path parts with single slashes."""
    return "/".join([root.rstrip("/"), *parts])


def exists(path: str) -> bool:
    """Tell whether `path` is a file or a directory (on s3: an object or a prefix of one)."""
    return bool(make_filesystem(path).exists(absolute(path)))


def list_files(prefix: str, suffix: str = "") -> list[str]:
    """List the files below `prefix`, at any depth, whose names end in `suffix`, sorted.

    They come back as `absolute` gives them.  A missing prefix has no files, and hidden files are
    none: macOS leaves ``._`` files, a killed writer unfinished ones.
    """
    return [path for path in list_stamps(prefix) if path.endswith(suffix)]


def glob(pattern: str) -> list[str]:
    """Return the files that match a pattern of ``*``, ``?`` and ``[…]``, in order.

    None of these reaches over a ``/``.
    """
    pattern = absolute(pattern)
    with _named(pattern):
        found = make_filesystem(pattern).glob(pattern)
    prefix = S3_PREFIX if is_s3(pattern) else ""
    return sorted(prefix + str(path).removeprefix(prefix) for path in found)


def list_stamps(prefix: str) -> dict[str, str]:
    """List the files below `prefix` with the `stamp` of each, from one listing, sorted."""
    found = _find(prefix)
    start = join(absolute(prefix), "")
    return {
        path: _stamp(found[path])
        for path in sorted(found)
        if not _is_hidden(path.removeprefix(start))
    }


def _find(prefix: str) -> dict[str, Mapping[str, Any]]:
    """List the files below `prefix`, those unfinished too."""
    root = absolute(prefix)
    with _named(root):
        found = make_filesystem(root).find(root, detail=True)
    start = "" if is_local(root) else f"{scheme_of(root)}://"
    return {start + path: info for path, info in found.items()}


def stamp(path: str) -> str:
    """Return what changes when a file does: its size, and its ETag or time of modification.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    with _named(path):
        return _stamp(make_filesystem(path).info(absolute(path)))


def _stamp(info: Mapping[str, Any]) -> str:
    tag = info.get("ETag") or info.get("etag") or info.get("mtime")
    return f"{info['size']}:{tag}".replace('"', "")


def _is_hidden(below: str) -> bool:
    """Tell whether a part of a path is hidden, as macOS's ``._`` files are."""
    return any(part.startswith(".") for part in below.split("/"))


def is_temporary(path: str) -> bool:
    """Tell whether a file is one of `temporary_name`."""
    return TEMPORARY.fullmatch(os.path.basename(path)) is not None


def read_bytes(path: str) -> bytes:
    """Return the whole content of a file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    with _named(path):
        return bytes(make_filesystem(path).cat_file(absolute(path)))


def write_bytes(path: str, data: bytes) -> None:
    """Write a file atomically; it replaces one of the same name.

    Locally a temporary name and ``os.replace``, parents are made; on s3 one put (of parts, if
    large), which is invisible until complete.
    """
    path = absolute(path)
    if not is_local(path):
        patience = {"timeout": PUT_TIMEOUT_S} if is_s3(path) else {}
        with _named(path):
            make_filesystem(path).pipe_file(path, data, **patience)
        return
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    # A name of its own for each writer, since a lost worker may still write the same file.
    temporary = os.path.join(folder, temporary_name(os.path.basename(path)))
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
    path = absolute(path)
    if is_local(path):
        return open(path, "rb")
    with _named(path):
        file: IO[bytes] = make_filesystem(path).open(path, "rb", block_size=BLOCK_SIZE)
    return file


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Put the path into an error of a file system that does not say it, as s3fs does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.strerror = str(error.strerror or error) or type(error).__name__
            missing = isinstance(error, FileNotFoundError)
            error.errno = error.errno or (errno.ENOENT if missing else errno.EIO)
            error.filename = path
        raise


def remove_files(paths: Sequence[str]) -> None:
    """Remove files, each by its own name; one that is not there is passed over.

    Raises
    ------
    OSError
        If one could not be removed.
    """
    if paths and is_s3(paths[0]):
        for start in range(0, len(paths), MOST_AT_ONCE):
            _remove_objects(paths[start : start + MOST_AT_ONCE])
        return
    for path in map(absolute, paths):
        with suppress(FileNotFoundError), _named(path):
            os.remove(path) if is_local(path) else make_filesystem(path).rm_file(path)


def _remove_objects(paths: Sequence[str]) -> None:
    """Remove objects of one bucket."""
    filesystem, bucket = make_filesystem(paths[0]), bucket_of(paths[0])
    names = [{"Key": absolute(path).removeprefix(f"{S3_PREFIX}{bucket}/")} for path in paths]
    with _named(paths[0]):
        answer = filesystem.call_s3(
            "delete_objects", Bucket=bucket, Delete={"Objects": names, "Quiet": True}
        )
    for refused in answer.get("Errors", ()):
        where = f"{S3_PREFIX}{bucket}/{refused['Key']}"
        raise PermissionError(errno.EACCES, refused.get("Message", "not removed"), where)


def remove_empty_folders(root: str) -> None:
    """Remove the folders below a local `root`, and itself, that hold nothing; s3 has none."""
    if not is_local(root):
        return
    for folder, _, _ in os.walk(absolute(root), topdown=False):
        with suppress(OSError):  # it holds something
            os.rmdir(folder)


def remove_temporary(root: str, deep: bool = True) -> int:
    """Remove what killed writers left unfinished in a local `root`; return how many files.

    Nobody may be writing there, nor, if `deep`, in the folders below.  On s3 there is nothing to
    remove.
    """
    if not is_local(root):
        return 0
    walk = os.walk(absolute(root)) if deep else islice(os.walk(absolute(root)), 1)
    left = [os.path.join(folder, name) for folder, _, names in walk for name in names]
    left = [path for path in left if is_temporary(path)]
    for path in left:
        with suppress(FileNotFoundError):
            os.remove(path)
    return len(left)


def temporary_name(name: str) -> str:
    """Return a name in the folder of `name` that nobody else uses and no listing shows."""
    return f".{name}.{uuid.uuid4().hex}.tmp"


def explain(error: BaseException) -> str:
    """Return an error's text without s3 addresses, keys and tokens, fit for ledgers and logs."""
    text = URL.sub("(address)", str(error) or type(error).__name__)
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "(hidden)")
    return text


def _secrets() -> Iterator[str]:
    for name, value in aws_variables().items():
        if value and any(part in name for part in SECRETS):
            yield value
            address = urlsplit(value)
            # Errors name host and port too, without the scheme.
            yield from (part for part in (address.netloc, address.hostname) if part)
