"""Which precision of a bundle is the fastest on this device: measured here once, remembered, taken by `auto`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from edgeface.files import sha256, write_text
from edgeface.manifest import Manifest
from edgeface.runtime.session import import_onnxruntime

VERSION: Final = 1


def remember(manifest: Manifest, embed_ms: Mapping[str, float]) -> Path:
    """Write how long one face takes on one CPU thread, by precision, in milliseconds; returns the file.

    It holds for this bundle and this onnxruntime. Another measurement replaces it.
    """
    path = _path(manifest)
    write_text(path, json.dumps({"version": VERSION, "embed_ms": dict(embed_ms)}) + "\n")
    return path


def recall(manifest: Manifest) -> dict[str, float]:
    """Return what `remember` wrote of the precisions that the bundle has; empty if it was not measured here."""
    try:
        stored = json.loads(_path(manifest).read_text(encoding="utf-8"))
        if stored["version"] != VERSION:
            return {}
        return {name: float(ms) for name, ms in stored["embed_ms"].items() if name in manifest.precisions and ms > 0}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a cache: what cannot be read is not there
        return {}


def fastest(manifest: Manifest) -> str:
    """Return the precision that is the fastest on one CPU thread: as measured here, or else where it was exported."""
    measured = recall(manifest)
    return min(measured, key=lambda name: measured[name]) if measured else manifest.fastest_precision()


def _path(manifest: Manifest) -> Path:
    key = sha256(manifest.to_json() + str(import_onnxruntime().__version__).encode())
    return user_cache_path("edgeface") / f"speed-{key[:16]}.json"
