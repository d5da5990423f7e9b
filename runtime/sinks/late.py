"""Matches that could not be delivered while they held.

A match opens doors. One that waited for a network to come back would open one for whoever stands there by then; so what
is delivered late is no match any more, whoever receives it and whatever they know of lateness.
"""

import json
from typing import Any, Final, Literal

Late = Literal["mark", "drop"]
"""What is done with a late match: it is delivered as a late one, for the record, or not at all."""

LATE_MATCH: Final = "late_match"
"""What a late match is called."""


def is_perishable(line: bytes) -> bool:
    """Tell whether the JSON of an event is a match that does not hold for ever; one that does not say does not."""
    values = _values(line)
    return values.get("event") == "match" and values.get("valid_until", "") is not None


def late(line: bytes) -> bytes:
    """Return the JSON of a match as it may be delivered late.

    It is the same event, with the same id, but no match any more: nobody who opens a door for a `match` and knows
    nothing of late ones opens it.
    """
    return json.dumps({**_values(line), "event": LATE_MATCH, "late": True}).encode()


def _values(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
