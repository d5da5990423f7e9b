"""Fixtures of a toy bundle, its keys and a picture, for the tests of what a device refuses."""

import json

import numpy as np
import pytest

from edgeface.files import sha256
from edgeface.images import write_image
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.signing import make_key, read_private_key, sign_bundle
from tests.test_runtime_bundle import write_bundle


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two key pairs: a.key, b.key."""
    folder = tmp_path_factory.mktemp("keys")
    for name in "ab":
        make_key(folder / f"{name}.key")
    return folder


@pytest.fixture
def bundle(tmp_path):
    folder = write_bundle(tmp_path / "toy.bundle")
    card = b"# toy\n"
    facts = json.loads((folder / "manifest.json").read_text())
    facts["files"]["MODEL_CARD.md"] = {"sha256": sha256(card), "bytes": len(card)}
    (folder / "MODEL_CARD.md").write_bytes(card)
    (folder / "manifest.json").write_text(json.dumps(facts, indent=2))
    return folder


@pytest.fixture
def signed(bundle, keys):
    sign_bundle(open_bundle(bundle), read_private_key(keys / "a.key"))
    return bundle


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, np.full((64, 64, 3), 128, np.uint8))
    return path
