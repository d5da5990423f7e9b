"""What this machine can do, and what is wrong with it."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgeface.errors import EdgefaceError
from edgeface.runtime.bundle import Bundle, open_bundle
from edgeface.runtime.cameras.video import list_cameras
from edgeface.runtime.canary import check_canaries
from edgeface.runtime.deciding.fitness import open_fitness_network
from edgeface.runtime.deciding.limits import bundle_limits
from edgeface.runtime.detection.detector import open_detector
from edgeface.runtime.embedder import bundle_embedder
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.key import find_key
from edgeface.runtime.placement import TELLING, processor, processor_instructions
from edgeface.runtime.providers.caches import list_caches
from edgeface.runtime.providers.choice import ProviderChoice
from edgeface.runtime.providers.provider_errors import TWO_WHEELS, installed_wheels
from edgeface.runtime.providers.session import Session, provider_status
from edgeface.runtime.showing.display import has_display
from edgeface.runtime.sinks.outbox_report import look_into

_PACKAGES: Final = (
    "edgeface",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "tensorrt",
    "torch",
    "onnx",
)


def examine(
    bundle: str | None = None,
    gallery: Path | None = None,
    require_keys: Sequence[Path] = (),
    choice: ProviderChoice | None = None,
    gallery_key: str | None = None,
    outbox: Path | None = None,
) -> dict[str, Any]:
    """Examine the machine; and a bundle, a gallery and an outbox if they are named.

    `require_keys` are as in `edgeface.runtime.bundle.open_bundle`, `gallery_key` as in
    `edgeface.runtime.gallery.key.find_key`. `choice` says which device to try the providers on, and names libraries
    with others.

    Returns:
        The facts of `edgeface doctor --json`. Problems are facts too: nothing is raised for them.
    """
    choice = choice or ProviderChoice()
    providers = _providers(choice)
    working = [provider["name"] for provider in providers if provider["works"]]
    return {
        "providers": providers,
        "wheels": _wheels(),
        "cameras": [{"index": camera.index, "name": camera.name} for camera in list_cameras()],
        "display": has_display(),
        "processor": processor(),
        "instructions": sorted(name for name in processor_instructions() if name in TELLING),
        "bundle": None if bundle is None else _check_bundle(bundle, require_keys, choice, working),
        "gallery": None if gallery is None else _check_gallery(gallery, gallery_key),
        "search": None
        if bundle is None or gallery is None
        else _check_search(bundle, gallery, require_keys, gallery_key),
        "outbox": None if outbox is None else _check_outbox(outbox),
        "caches": [asdict(cache) | {"path": str(cache.path)} for cache in list_caches()],
        "versions": {"python": platform.python_version()} | _versions(),
    }


def _providers(choice: ProviderChoice) -> list[dict[str, Any]]:
    try:
        statuses = provider_status(choice)
    except EdgefaceError as error:  # onnxruntime is not installed
        return [{"name": "cpu", "works": False, "why": str(error)}]
    return [{"name": status.name, "works": status.works, "why": status.why} for status in statuses]


def _wheels() -> dict[str, Any]:
    """Say which wheels brought onnxruntime; two of them overwrite each other's files, and either may then be broken."""
    found = installed_wheels()
    many = f"{' and '.join(found)} are installed: {TWO_WHEELS}"
    return {"installed": list(found), "ok": len(found) < 2, "why": many if len(found) > 1 else None}


def _check_bundle(
    path: str, require_keys: Sequence[Path], choice: ProviderChoice, working: Sequence[str]
) -> dict[str, Any]:
    try:
        opened = open_bundle(path, require_keys=require_keys)
        opened.verify()
        for precision in opened.manifest.precisions:
            embedder, _ = bundle_embedder(opened, precision=precision, provider="cpu")
            size = embedder.contract.size
            embedder.embed(np.zeros((1, size, size, 3), np.uint8))  # an old onnxruntime may load it and not run it
        canaries = [check for name in working for check in check_canaries(opened, replace(choice, name=name))]
    except EdgefaceError as error:
        return {"ok": False, "why": str(error)}
    wrong = [check.why for check in canaries if check.state == "different"]
    return {
        "ok": not wrong,
        "why": wrong[0] if wrong else None,
        "name": opened.manifest.name,
        "precisions": list(opened.manifest.precisions),
        "scoring": opened.manifest.scoring,
        "lacks": list(opened.manifest.lacks),
        "signed_by": opened.signed_by,
        "unlisted": list(opened.unlisted()),
        "canaries": [check.to_json() for check in canaries],
        "placement": [row for name in working for row in _placement(opened, replace(choice, name=name))],
    }


def _placement(bundle: Bundle, choice: ProviderChoice) -> list[dict[str, Any]]:
    """Say how much of each network a provider runs, which is asked by opening it there."""
    opens: dict[str, Callable[[], Session]] = {
        name: partial(_embedder_session, bundle, name, choice) for name in bundle.manifest.precisions
    }
    if bundle.manifest.detector is not None:
        opens["detector"] = lambda: open_detector(bundle.detector(), provider=choice).session
    if (quality := bundle.quality()) is not None:
        opens["quality"] = lambda: open_fitness_network(quality, provider=choice).session
    rows = []
    for network, open_it in opens.items():
        row: dict[str, Any] = {"network": network, "provider": choice.name, "nodes": None, "why": None}
        try:
            session = open_it()
            if session.nodes is not None:
                row["nodes"] = dict(session.nodes.nodes)
                row["why"] = session.nodes.warning(choice.name, network)
        except EdgefaceError as error:
            row["why"] = str(error)
        rows.append(row)
    return rows


def _embedder_session(bundle: Bundle, precision: str, choice: ProviderChoice) -> Session:
    return bundle_embedder(bundle, precision=precision, provider=choice)[0].session


def _check_gallery(path: Path, key: str | None) -> dict[str, Any]:
    try:
        with Gallery(path, key=find_key(key)) as opened:
            people, log = opened.list(), opened.log()
            opened.templates()
    except EdgefaceError as error:
        return {"ok": False, "why": str(error)}
    why = None if log.broken is None else f"its log was altered: {log.broken}"
    return {"ok": why is None, "why": why, "people": len(people), "encrypted": opened.encrypted}


def _check_outbox(path: Path) -> dict[str, Any]:
    """Say what waits in an outbox, and what was set aside because its destination does not want it."""
    try:
        report = look_into(path)
    except EdgefaceError as error:
        return {"ok": False, "why": str(error)}
    why = None
    if report.refused:
        last = report.set_aside[0]
        why = f"{report.refused} events were set aside, the last one for {last.sink}: {last.why}"
    set_aside = [asdict(letter) for letter in report.set_aside]
    facts = {"path": str(path), "waiting": dict(report.waiting), "refused": report.refused, "set_aside": set_aside}
    return {"ok": why is None, "why": why, **facts}


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


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
