"""Paths as strings: local ones, and URLs of object stores.  None is ever a pattern.

What a path means is decided here alone: a local path is absolute from here on, since workers run
in other directories; a scheme is one that is known, or the path is refused, so that ``gs://`` does
not become a folder of that name.
"""

from __future__ import annotations

import os
import re

from raydeblend.errors import ConfigError

S3_PREFIX = "s3://"
OTHER_STORES = ("gs", "gcs", "abfs", "az")
"""Stores that fsspec knows besides s3, if their package is installed.  Their writes are whole or
not at all and are seen by every machine, which a run builds on; those of ``memory://``, ``sftp://``
and the like are not."""
VALID = (
    "a local path, file:///…, s3://bucket/prefix or, with the package of its store, "
    "gs://, abfs:// or az://"
)
PATTERN = re.compile(r"[*?\[\]]")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# s3fs would cut the name off here.
_VERSION = "?versionId="


def absolute(path: str) -> str:
    """Return a path as all of this package takes it: local from the root, or a store's URL.

    ``tiles/``, ``./tiles`` and ``file:///…/tiles`` are one local path; ``S3://`` and ``s3a://``
    are s3.

    Raises
    ------
    ConfigError
        If it is empty, of an unknown scheme, or names no bucket.
    """
    if not path.strip():
        raise ConfigError(f"an empty path was given; valid: {VALID}")
    if _CONTROL.search(path):
        raise ConfigError(f"the path {path!r} contains a control character")
    if is_url(path):
        return _absolute_url(path)
    local = os.path.expanduser(path)
    # What ".." means after a symbolic link, only the file system knows.
    return os.path.realpath(local) if ".." in local.split("/") else _one_slash(local)


def _one_slash(local: str) -> str:
    return "/" + os.path.abspath(local).lstrip("/")


def is_url(path: str) -> bool:
    """Tell whether a path has a scheme, known or not."""
    return bool(_SCHEME.match(path)) or "://" in path


def _absolute_url(path: str) -> str:
    scheme, _, rest = path.partition(":")
    scheme = scheme.lower()
    if scheme in ("file", "local"):
        return _local_of(path, rest)
    scheme = "s3" if scheme == "s3a" else scheme
    if scheme != "s3" and scheme not in OTHER_STORES:
        raise ConfigError(f"{path} is on storage that is not supported; valid: {VALID}")
    if scheme != "s3":
        _check_other_store(path, scheme)
    bucket, _, key = rest.removeprefix("//").partition("/")
    if not bucket or not rest.startswith("//"):
        raise ConfigError(f"{path} names no bucket; write {scheme}://bucket/prefix")
    if _VERSION in key:
        raise ConfigError(f"{path} names a version of an object; only the newest can be used")
    return f"{scheme}://{bucket}/{key}".rstrip("/")


def _local_of(path: str, rest: str) -> str:
    host, slash, below = rest.removeprefix("//").partition("/")
    if rest.startswith("//") and host.lower() in ("", "localhost") and slash:
        return absolute("/" + below)
    if not rest.startswith("//"):
        return absolute("/" + rest.lstrip("/"))
    raise ConfigError(f"{path} is on another machine, {host!r}; write file:///folder")


def _check_other_store(path: str, scheme: str) -> None:
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{path} cannot be used here: {error}; valid: {VALID}") from error
    if PATTERN.search(path):
        # Their clients would take it for one.
        raise ConfigError(f"{path} may not contain * ? [ or ]; only local paths and s3 may")


def is_local(path: str) -> bool:
    """Tell whether a path is one of this machine's file system, `absolute` or as it was given."""
    return "://" not in absolute(path)


def is_s3(path: str) -> bool:
    """Tell whether the path lies on s3."""
    return absolute(path).startswith(S3_PREFIX)


def scheme_of(url: str) -> str:
    """Return the scheme of a path from `absolute`, empty for a local one."""
    return url.partition("://")[0] if "://" in url else ""


def parent(path: str) -> str:
    """Return the folder of a file."""
    path = absolute(path)
    above = path.rpartition("/")[0] or "/"
    return path if above.endswith(":/") else above


def same_place(first: str, second: str) -> bool:
    """Tell whether two paths, of which either may be spelled in another way, are one."""
    return _place(first) == _place(second)


def _place(path: str) -> str:
    path = absolute(path)
    return path if "://" in path else os.path.realpath(path)


def bucket_of(path: str) -> str:
    """Return the bucket of a path on s3."""
    return absolute(path).removeprefix(S3_PREFIX).split("/")[0]
