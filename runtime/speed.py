"""What of a bundle is the fastest on this device's CPU: measured here once, remembered, taken from then on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from platformdirs import user_cache_path

from edgeface.files import parse_json, sha256, write_text
from edgeface.manifest import Manifest
from edgeface.telemetry import import_onnxruntime

VERSION: Final = 2


def remember(manifest: Manifest, embed_ms: Mapping[str, float], batches: Mapping[str, int] | None = None) -> Path:
    """Write how fast the embedder is on one CPU thread; returns the file.

    It holds for this bundle and this onnxruntime. Another measurement replaces it.

    Args:
        manifest: of the bundle.
        embed_ms: what one face takes by precision, in milliseconds.
        batches: by precision, how many faces to put into one run; none where as many as there are is fastest.
    """
    path = _path(manifest)
    facts = {"version": VERSION, "embed_ms": dict(embed_ms), "batches": dict(batches or {})}
    write_text(path, json.dumps(facts) + "\n")
    return path


def recall(manifest: Manifest) -> dict[str, float]:
    """Return the times that `remember` wrote of the precisions that the bundle has; empty if none were measured."""
    try:
        times = _read(manifest)["embed_ms"].items()
        return {name: float(ms) for name, ms in times if name in manifest.precisions and ms > 0}
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
    ):  # a cache: what cannot be read is not there
        return {}


def fastest_batch(manifest: Manifest, precision: str) -> int | None:
    """Return how many faces to put into one run on the CPU, as measured here; None for as many as there are."""
    try:
        batch = _read(manifest)["batches"].get(precision)
    except (KeyError, TypeError, AttributeError):
        return None
    return batch if isinstance(batch, int) and batch > 0 else None


def fastest(manifest: Manifest) -> str:
    """Return the precision that is the fastest on one CPU thread: as measured here, or else where it was exported."""
    measured = recall(manifest)
    return min(measured, key=lambda name: measured[name]) if measured else manifest.fastest_precision()


def _path(manifest: Manifest) -> Path:
    key = sha256(manifest.to_json() + str(import_onnxruntime().__version__).encode())
    return user_cache_path("edgeface") / f"speed-{key[:16]}.json"


def _read(manifest: Manifest) -> Any:
    try:
        stored = parse_json(_path(manifest).read_bytes())
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) and stored.get("version") == VERSION else {}
