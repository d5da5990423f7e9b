"""Which provider runs how much of a network.

onnxruntime gives the CPU what a provider does not take, and does not say so.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgeface.runtime.providers.table import short_name

RECORD: Final = "session.record_ep_graph_assignment_info"
"""The session option that makes onnxruntime remember it."""
FEW: Final = 0.5
"""A provider that runs less than this share of the nodes is worth a warning."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Nodes of a network by the provider that runs them.

    Attributes:
        nodes: short name of a provider to its number of nodes.
    """

    nodes: Mapping[str, int]

    def share(self, provider: str) -> float:
        """Return the share of the nodes that a provider runs, in [0, 1]."""
        total = sum(self.nodes.values())
        return self.nodes.get(provider, 0) / total if total else 0.0

    def warning(self, provider: str, name: str) -> str | None:
        """Say that a provider runs little of a network, if it does."""
        if self.share(provider) >= FEW or not self.nodes:
            return None
        rest = ", ".join(f"{other} {count}" for other, count in self.nodes.items() if other != provider)
        return (
            f"{provider} runs only {self.nodes.get(provider, 0)} of the {sum(self.nodes.values())} nodes of {name}, "
            f"the rest is run by: {rest}; it will hardly be faster than there"
        )


def recorded(session: Any, names: Mapping[str, str]) -> Assignment | None:
    """Return what onnxruntime remembered; None from a version that cannot (it came with 1.24).

    `names` are short names of providers that are not in the table, by onnxruntime's.
    """
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:
        return None
    try:
        parts = ask()
    except Exception:  # onnxruntime's exceptions share no base class but this; the option was not known
        return None
    counts: Counter[str] = Counter()
    for part in parts:
        counts[names.get(part.ep_name) or short_name(part.ep_name)] += len(part.get_nodes())
    return Assignment(dict(counts))


def profiled(path: Path, names: Mapping[str, str]) -> Assignment | None:
    """Read it from the profile of a run, which any version writes; None if that says nothing of nodes.

    A node that TensorRT or another compiling provider made of many counts as one.
    """
    try:
        events = json.loads(path.read_text(encoding="utf-8"))
        found = {
            (event["name"], event["args"]["provider"])
            for event in events
            if event.get("cat") == "Node" and event.get("args", {}).get("provider")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    counts = Counter(names.get(provider) or short_name(provider) for _, provider in found)
    return Assignment(dict(counts)) if counts else None
