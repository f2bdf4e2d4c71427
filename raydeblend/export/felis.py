"""The schema of exported tables in felis, the language of Rubin's data model: YAML.

``felis validate FILE`` (package ``lsst-felis``) checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import yaml

WORD = 256
"""Largest length of a string; felis requires one."""
TYPES = {
    pa.bool_(): "boolean",
    pa.int16(): "short",
    pa.int32(): "int",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
}
KEYS = {b"unit": "ivoa:unit", b"ucd": "ivoa:ucd"}


def schema_yaml(described: Mapping[str, tuple[pa.Table, str]]) -> str:
    """Return the schema of tables by name, each with the name of its primary key."""
    schema = {
        "name": "raydeblend",
        "description": "A deblended catalog under the column names of the Rubin Observatory",
        "tables": [_table(name, table.schema, key) for name, (table, key) in described.items()],
    }
    text: str = yaml.safe_dump(schema, sort_keys=False)
    return text


def _table(name: str, fields: pa.Schema, key: str) -> dict[str, Any]:
    return {
        "name": name,
        "@id": f"#{name}",
        "description": f"{name} table; names that are not Rubin's are those of raydeblend",
        "primaryKey": f"#{name}.{key}",
        "columns": [_column(name, field) for field in fields],
    }


def _column(table: str, field: pa.Field) -> dict[str, Any]:
    said = {key: value.decode() for key, value in (field.metadata or {}).items()}
    column = {
        "name": field.name,
        "@id": f"#{table}.{field.name}",
        "datatype": TYPES[field.type],
        "description": said[b"description"],
        "nullable": field.nullable,
    }
    if field.type == pa.string():
        column["length"] = WORD
    return column | {name: said[key] for key, name in KEYS.items() if said.get(key)}
