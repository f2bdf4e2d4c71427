"""The checkpoints of a run: which is the newest that is whole.

A driver or a disk that dies can leave the newest file cut off, or Ray Train's own list of them.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import pyarrow.fs

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.train.state import TrainState, load_state

STATE = "state.pt"
SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list of the checkpoints that it keeps."""

log = logging.getLogger(__name__)


def load_newest(state: TrainState, folder: str) -> str | None:
    """Load the newest checkpoint below `folder` that is whole; return its folder, None without any.

    Raises
    ------
    ConfigError
        If there are checkpoints and none is whole; the text names the newest.
    """
    # Ray names their folders by the time.
    paths = sorted(storage.list_files(folder, f"/{STATE}"), reverse=True)
    for path in paths:
        try:
            load_state(state, path)
        except ConfigError as error:
            log.warning("%s; the checkpoint before it is looked at", error)
        else:
            return storage.parent(path)
    if paths:
        raise ConfigError(
            f"none of the {len(paths)} checkpoints in {folder} is whole, the newest is {paths[0]}; "
            "begin again in another location"
        )
    return None


def mend_snapshot(folder: str) -> None:
    """Remove Ray Train's list of checkpoints if it is damaged or names some that are gone.

    Ray would end the run over it; the checkpoints are found without.
    """
    path = storage.join(folder, SNAPSHOT)
    if not storage.exists(path):
        return
    try:
        kept = json.loads(storage.read_bytes(path))["checkpoint_results"]
        names = [each["checkpoint_dir_name"] for each in kept]
    except (ValueError, LookupError, TypeError):
        names = [STATE]  # there is none of this name
    if not all(storage.exists(storage.join(folder, name)) for name in names):
        log.warning("%s is damaged and made again", path)
        storage.remove_files([path])


def storage_of(path: str) -> dict[str, Any]:
    """Return Ray Train's options for keeping all checkpoints below `path`."""
    if storage.is_local(path):
        return {"storage_path": path}
    # pyarrow's own S3 leaves directory markers that some servers cannot delete.
    handler = pyarrow.fs.FSSpecHandler(storage.make_filesystem(path))
    return {
        "storage_path": path.partition("://")[2],
        "storage_filesystem": pyarrow.fs.PyFileSystem(handler),
    }
