"""The s3 client behind `raydeblend.storage`."""

from __future__ import annotations

import s3fs


class LiteralS3(s3fs.S3FileSystem):  # type: ignore[misc]
    """s3fs that takes every path for a name.

    Its own ``rm``, which Ray Train calls too, removes what ``*``, ``?`` and ``[…]`` match.
    """

    async def _expand_path(
        self,
        path: str | list[str],
        recursive: bool = False,
        maxdepth: int | None = None,
        assume_literal: bool = True,
    ) -> list[str]:
        found = await super()._expand_path(path, recursive, maxdepth, assume_literal=True)
        return list(found)
