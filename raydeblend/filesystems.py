"""The fsspec clients behind `raydeblend.storage`: one per process, without cached listings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import fsspec
from fsspec.implementations.local import LocalFileSystem

from raydeblend.paths import absolute, is_local, is_s3, scheme_of


@dataclass(frozen=True)
class RetryPolicy:
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


def open_filesystem(path: str, patience: RetryPolicy) -> fsspec.AbstractFileSystem:
    """Return the fsspec filesystem that serves `path`; the same for equal arguments."""
    path = absolute(path)
    if is_local(path):
        return LocalFileSystem()
    if not is_s3(path):
        return _other_filesystem(os.getpid(), scheme_of(path))
    return _s3_filesystem(os.getpid(), tuple(sorted(aws_variables().items())), patience)


def aws_variables() -> dict[str, str]:
    """Return the environment's variables for s3."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


@lru_cache(maxsize=8)
def _other_filesystem(process: int, scheme: str) -> fsspec.AbstractFileSystem:
    # One client per process, as for s3.
    return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)


def _checksums(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what to say of checksums to a server that is not Amazon's.

    Few of them know those that newer AWS clients send by default.  What the user's variables say
    stands.
    """
    if not any(name.startswith("AWS_ENDPOINT_URL") for name in variables):
        return {}
    options = ("request_checksum_calculation", "response_checksum_validation")
    return {name: "when_required" for name in options if f"AWS_{name.upper()}" not in variables}


@lru_cache(maxsize=8)
def _s3_filesystem(
    process: int, settings: tuple[tuple[str, str], ...], patience: RetryPolicy
) -> fsspec.AbstractFileSystem:
    from raydeblend.literal_s3 import LiteralS3  # imports all that talks to s3

    # One client per process and per set of AWS variables: s3fs's own cache knows neither, so
    # that a forked worker or changed credentials would meet a stale client.
    config = {
        "retries": {"mode": "standard", "total_max_attempts": patience.attempts},
        "connect_timeout": patience.connect_s,
        "read_timeout": patience.read_s,
        **_checksums(dict(settings)),
    }
    filesystem = LiteralS3(skip_instance_cache=True, use_listings_cache=False, config_kwargs=config)
    filesystem.retries = patience.repeats
    return filesystem
