"""From the types of what is printed to JSON Schema."""

import json
from typing import Any, Final

from pydantic import TypeAdapter

from edgeface.schemas.outputs import OUTPUTS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MODE: Final = "serialization"
"""What is written, not what would be read: fields with a default are always there."""


def make_schemas() -> dict[str, str]:
    """Return the text of each schema file by its name, as JSON with an end of line."""
    return {name: json.dumps(_schema(name, kind), indent=1) + "\n" for name, kind in OUTPUTS.items()}


def _schema(name: str, kind: Any) -> dict[str, Any]:
    made = TypeAdapter(kind).json_schema(mode=MODE)
    return {"$schema": DIALECT, "title": f"edgeface {name.replace('-', ' ')}", **_readable(made)}


def _readable(schema: Any) -> Any:
    """Leave out what only repeats the name of a key: the title of each field."""
    if isinstance(schema, list):
        return [_readable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    return {key: _readable(value) for key, value in kept.items()}
