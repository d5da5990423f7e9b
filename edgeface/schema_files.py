"""What edgeface prints for programs: JSON Schema (2020-12) of the events and of what every `--json` prints.

The files are written by `scripts/make_schemas` from the types in `edgeface.schemas`, and read here without them. Within
a version keys are only added; one that goes or changes its meaning makes a new version.
"""

from importlib import resources
from typing import Final

from edgeface.errors import UnknownNameError

SCHEMA_VERSION: Final = 1
"""Of everything that is printed and told; its key is `schema`."""


def schema_names() -> tuple[str, ...]:
    """Return the names of all schemas: `event`, and for each command its words with hyphens, such as `gallery-list`."""
    files = (resources.files("edgeface.schemas") / "json").iterdir()
    return tuple(sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json")))


def read_schema(name: str) -> str:
    """Return a schema as JSON text.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in schema_names():
        raise UnknownNameError("schema", name, schema_names())
    return (resources.files("edgeface.schemas") / "json" / f"{name}.json").read_text(encoding="utf-8")
