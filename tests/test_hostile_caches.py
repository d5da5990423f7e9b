"""What edgeface keeps of its own accord, broken or replaced: it counts as not there."""

import json
import os
from pathlib import Path

import pytest

from edgeface.runtime import speed
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.providers import caches


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (speed, caches):
        monkeypatch.setattr(module, "user_cache_path", lambda _: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"7",
        b"null",
        b'{"version": 2}',
        b'{"version": 2, "embed_ms": 5, "batches": 5}',
        b'{"version": 2, "embed_ms": {"int8": "fast"}, "batches": {"int8": "all"}}',
        b'{"version": 2, "embed_ms": {"int8": 1' + b"0" * 400 + b'}, "batches": {"int8": -1}}',
        b'{"version": 2, "embed_ms": {"int8": NaN, "fp32": null}, "batches": []}',
        b'{"version": 2, "embed_ms": [["int8", 1]], "batches": {"int8": [1]}}',
    ],
)
def test_measurements_that_are_none(cache: Path, content: bytes) -> None:
    manifest = open_bundle("default-edge").manifest
    path = speed.remember(manifest, {"int8": 1.0}, {"int8": 4})
    assert speed.recall(manifest) == {"int8": 1.0} and speed.fastest_batch(manifest, "int8") == 4
    path.write_bytes(content)
    assert speed.recall(manifest) == {} and speed.fastest_batch(manifest, "int8") is None
    assert speed.fastest(manifest) == manifest.fastest_precision()


def test_what_lies_there_instead_is_counted_and_left(cache: Path) -> None:
    (cache / "speed-1.json").write_text(json.dumps({}))
    (cache / "speed-2.json").mkdir()
    (cache / "speed-3.json").symlink_to("/etc/passwd")
    (cache / "tensorrt").mkdir()
    (cache / "tensorrt" / "loop").symlink_to("loop")
    (cache / "tensorrt" / "engine").write_bytes(b"12345")
    os.mkfifo(cache / "tensorrt" / "pipe")
    assert [(found.files, found.bytes) for found in caches.list_caches()] == [(1, 2), (1, 5)]
    assert caches.clear_caches() == 7
    assert [path.name for path in cache.iterdir()] == ["speed-2.json"]
    assert Path("/etc/passwd").exists()
