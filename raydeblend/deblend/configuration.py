"""The hash of tuned parameters, which with the weights tells whether two runs are the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def hash_of(*configurations: DataclassInstance) -> str:
    """Return sixteen hex digits that are equal exactly for equal configurations."""
    text = json.dumps([asdict(each) for each in configurations], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
