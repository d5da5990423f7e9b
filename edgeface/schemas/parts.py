"""What several outputs have in common, and types made of the records that hold the figures."""

from dataclasses import fields
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel
from typing_extensions import TypedDict

from edgeface.schemas.events import Version

Interval = tuple[float, float]


def with_fields(name: str, part: Any, **more: Any) -> Any:
    """Return the type of an object with the fields of a record, and `more`, which goes before."""
    if issubclass(part, BaseModel):
        found = {key: field.annotation for key, field in part.model_fields.items()}
    else:
        hints = get_type_hints(part)
        found = {field.name: hints[field.name] for field in fields(part)}
    # A checker cannot follow; `tests/test_schemas.py` holds it against what is printed.
    return TypedDict(name, found | more)  # type: ignore[operator]


class Output(TypedDict):
    """What every output has."""

    schema: Version


class Rate(TypedDict):
    """A share of trials with its 95 % interval."""

    rate: float
    interval: Interval
    errors: int
    trials: int


class LeftOutPicture(TypedDict):
    """A picture that could not be used."""

    picture: str
    why: str
    kind: str


class Plugin(TypedDict):
    """An installed plug-in; what is not known is empty."""

    name: str
    kind: str
    reference: str
    package: str
    version: str


class Canary(TypedDict):
    """What a precision answers for the canary; see `edgeface.runtime.canary`."""

    precision: str
    provider: str
    state: Literal["same", "different", "none", "not run"]
    difference: float | None
    tolerance: float | None
    why: str | None
