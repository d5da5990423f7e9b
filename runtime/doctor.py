"""What this machine can do, and what is wrong with it."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from edgeface.errors import EdgefaceError
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.display import has_display
from edgeface.runtime.embedder import bundle_embedder
from edgeface.runtime.gallery import Gallery
from edgeface.runtime.gallery_key import find_key
from edgeface.runtime.limits import bundle_limits
from edgeface.runtime.placement import processor_instructions
from edgeface.runtime.session import provider_status
from edgeface.runtime.video import list_cameras

_PACKAGES: Final = (
    "edgeface",
    "numpy",
    "opencv-python",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "onnx",
)


def examine(
    bundle: str | None = None,
    gallery: Path | None = None,
    require_keys: Sequence[Path] = (),
    gallery_key: str | None = None,
) -> dict[str, Any]:
    """Examine the machine; and a bundle and a gallery if they are named.

    `require_keys` are as in `edgeface.runtime.bundle.open_bundle`, `gallery_key` as in
    `edgeface.runtime.gallery_key.find_key`.

    Returns:
        The facts of `edgeface doctor --json`. Problems are facts too: nothing is raised for them.
    """
    return {
        "providers": _providers(),
        "cameras": [{"index": camera.index, "name": camera.name} for camera in list_cameras()],
        "display": has_display(),
        "processor": f"{platform.machine()}{_extensions()}",
        "bundle": None if bundle is None else _check_bundle(bundle, require_keys),
        "gallery": None if gallery is None else _check_gallery(gallery, gallery_key),
        "search": None
        if bundle is None or gallery is None
        else _check_search(bundle, gallery, require_keys, gallery_key),
        "versions": {"python": platform.python_version()} | _versions(),
    }


def _providers() -> list[dict[str, Any]]:
    try:
        statuses = provider_status()
    except EdgefaceError as error:  # onnxruntime is not installed
        return [{"name": "cpu", "works": False, "why": str(error)}]
    return [{"name": status.name, "works": status.works, "why": status.why} for status in statuses]


def _check_bundle(path: str, require_keys: Sequence[Path]) -> dict[str, Any]:
    try:
        opened = open_bundle(path, require_keys=require_keys)
        opened.verify()
        for precision in opened.manifest.precisions:
            bundle_embedder(opened, precision=precision, provider="cpu")
    except EdgefaceError as error:
        return {"ok": False, "why": str(error)}
    return {
        "ok": True,
        "why": None,
        "name": opened.manifest.name,
        "precisions": list(opened.manifest.precisions),
        "signed_by": opened.signed_by,
        "unlisted": list(opened.unlisted()),
    }


def _check_gallery(path: Path, key: str | None) -> dict[str, Any]:
    try:
        with Gallery(path, key=find_key(key)) as opened:
            people, log = opened.list(), opened.log()
            opened.templates()
    except EdgefaceError as error:
        return {"ok": False, "why": str(error)}
    why = None if log.broken is None else f"its log was altered: {log.broken}"
    return {"ok": why is None, "why": why, "people": len(people), "encrypted": opened.encrypted}


def _check_search(path: str, gallery: Path, require_keys: Sequence[Path], key: str | None) -> dict[str, Any]:
    """Say which threshold a search in the gallery gets, for faces of each precision, and where it falls short."""
    try:
        opened = open_bundle(path, require_keys=require_keys)
        space, dimension = opened.manifest.space, opened.manifest.embedder.dimension
        with Gallery(gallery, space, dimension, key=find_key(key)) as people:
            templates = people.precisions()
        found = {p: bundle_limits(opened, p).search(templates) for p in opened.manifest.precisions}
    except EdgefaceError as error:
        return {"ok": False, "why": str(error)}
    notes = [limit.note for limit in found.values() if limit.note is not None]
    return {
        "ok": not notes,
        "why": notes[0] if notes else None,
        "templates": sum(templates.values()),
        "precisions": {name: asdict(limit) for name, limit in found.items()},
    }


def _extensions() -> str:
    """Name the instructions that decide how fast int8 is, as far as Linux tells."""
    flags = processor_instructions()
    known = [name for name in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "asimddp", "i8mm") if name in flags]
    return f" ({', '.join(known)})" if known else ""


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
