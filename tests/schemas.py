"""What is printed for programs, held against its schema; more strictly than readers should, as keys may be added."""

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from edgeface.schema_files import read_schema, schema_names

GROUPS = {name.partition("-")[0] for name in schema_names() if "-" in name}
"""Commands with commands below them."""


def strict(schema):
    """Return a schema that takes no key that it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    return {"additionalProperties": False, **closed} if isinstance(closed.get("properties"), dict) else closed


@cache
def validator(name):
    return Draft202012Validator(strict(json.loads(read_schema(name))))


def assert_valid(name, value):
    """Raise AssertionError unless a value is as the schema of that name says."""
    faults = list(validator(name).iter_errors(value))
    if faults and faults[0].context:  # of several forms that an output may have, the one that it comes nearest to
        forms: dict[Any, list[Any]] = {}
        for fault in faults[0].context:
            forms.setdefault(fault.schema_path[0], []).append(fault)
        faults = min(forms.values(), key=len)
    assert not faults, f"{name}: {'; '.join(f'{list(f.absolute_path)}: {f.message[:300]}' for f in faults)}"


def schema_of(arguments):
    """Return the name of the schema of a command line with --json."""
    words = [word for word in arguments if not word.startswith("-")]
    return "-".join(words[: 2 if words[0] in GROUPS else 1])


def assert_printed(arguments, stdout):
    """Hold every line that a command with --json printed against its schema."""
    name = schema_of(arguments)
    if name == "schema":
        return
    for line in stdout.splitlines():
        assert_valid(name, json.loads(line))
