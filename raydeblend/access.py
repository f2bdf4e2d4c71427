"""Whether a path can be read and written: asked before any work, and answered in one sentence."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
from botocore.exceptions import (  # type: ignore[import-untyped]
    NoCredentialsError,
    PartialCredentialsError,
)

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.filesystems import RetryPolicy, open_filesystem
from raydeblend.paths import absolute, bucket_of, is_local, is_s3, parent

# Of the checks before any work, for which somebody waits at a terminal: a server that refuses is
# told in 4 s, one that takes a connection and says nothing in 18 s.
CHECK_ATTEMPTS, CHECK_TIMEOUT_S = 3, 5
JOB_FOLDER = "/runtime_resources/working_dir_files/"
"""Where `ray job submit --working-dir` unpacks; a relative path of a job is below."""

log = logging.getLogger(__name__)


def _impatient(path: str) -> fsspec.AbstractFileSystem:
    """Return the filesystem of the checks before any work."""
    return open_filesystem(path, RetryPolicy(CHECK_ATTEMPTS, 1, CHECK_TIMEOUT_S, CHECK_TIMEOUT_S))


def check_readable(root: str) -> None:
    """Check that `root` exists and can be listed.

    Raises
    ------
    ConfigError
        One sentence: no such file or directory, bucket, credentials or server.
    """
    check_answers(root)
    with _as_config_error(root, "read"):
        if not storage.exists(root):
            raise ConfigError(f"{root} does not exist")
        if is_local(root) and not os.access(absolute(root), os.R_OK):
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
        _impatient(root).call_s3("list_objects_v2", Bucket=bucket_of(root), MaxKeys=1)


def check_writable(root: str) -> None:
    """Check that files can be written below `root`, by writing one.

    Raises
    ------
    ConfigError
        One sentence: not a directory, no permission, bucket, credentials or server.
    """
    root = absolute(root)
    if JOB_FOLDER in root:
        log.warning("%s is in Ray's copy of the working directory, which Ray may remove", root)
    probe = storage.join(root, storage.temporary_name("probe"))
    with _as_config_error(root, "write"):
        if is_s3(root):
            most = CHECK_ATTEMPTS * CHECK_TIMEOUT_S
            _impatient(probe).pipe_file(probe, b"", timeout=most)
        else:
            storage.write_bytes(probe, b"")
        storage.make_filesystem(probe).rm_file(probe)


def check_file_writable(path: str) -> None:
    """Check that a file can be written at `path`, by writing another next to it.

    Raises
    ------
    ConfigError
        As `check_writable`, or if `path` is a directory.
    """
    path = absolute(path)
    if is_local(path) and os.path.isdir(path):
        raise ConfigError(f"{path} is a directory; name a file in it")
    check_writable(parent(path))


@contextmanager
def _as_config_error(path: str, verb: str) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except (*storage.READ_ERRORS, ValueError) as error:  # botocore's word for a malformed endpoint
        raise ConfigError(f"cannot {verb} {path}: {_explain(path, error)}") from error


def _explain(path: str, error: Exception) -> str:
    if is_local(path):
        return str(getattr(error, "strerror", None) or error)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "no s3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, storage.NO_ANSWER):
        return "no s3 server answers at the address that AWS_ENDPOINT_URL or the region gives"
    if isinstance(error, PermissionError):
        return f"the s3 server refused the credentials ({storage.explain(error)})".rstrip(".")
    if isinstance(error, FileNotFoundError):
        return f"there is no bucket {bucket_of(path)!r}"
    return storage.explain(error)
