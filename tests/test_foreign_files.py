"""What a foreign network keeps in files beside it, and what must not be read."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgeface.errors import ExportError
from edgeface.export.importing import reading
from edgeface.export.importing.reading import read_source
from edgeface.files import sha256
from tests.foreign_networks import assert_comes_in, between, brought_in, expected, node


@pytest.fixture
def model():
    return between([node("Flatten", ["maps"], "flat")], batch="n")


@pytest.fixture
def stored(model, tmp_path):
    """As torch 2.13 writes it: the weights in one file beside the network."""
    model = onnx.load_model_from_string(model.SerializeToString())  # saving changes it
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    return tmp_path / "net.onnx"


def changed(path: Path, **entries: str | None) -> Path:
    """Change what the first weight says of where it lies."""
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    stated = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in stated.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_the_network_are_read(model, stored, tmp_path):
    source = read_source(stored)
    arrays = [{t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (model, source.model)]
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name])
    assert source.beside == {"net.onnx.data": sha256((tmp_path / "net.onnx.data").read_bytes())}
    network, made = brought_in(stored, tmp_path)
    np.testing.assert_allclose(made, expected(str(stored)), atol=2e-5)
    assert network.origin["weights beside it"].startswith("net.onnx.data ")


def test_a_folder_below_will_do(model, tmp_path):
    (tmp_path / "w").mkdir()
    model = onnx.load_model_from_string(model.SerializeToString())  # saving changes it
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="w/data.bin", size_threshold=0)
    assert read_source(tmp_path / "net.onnx").beside.keys() == {"w/data.bin"}


def test_one_file_stays_one(model, tmp_path):
    assert_comes_in(model, tmp_path)
    assert read_source(tmp_path / "theirs.onnx").beside == {}


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../net.onnx.data", "no plain name"),
        ("a/../../x", "no plain name"),
        ("/etc/passwd", "no plain name"),
        ("..", "no plain name"),
        ("C:\\weights", "no plain name"),
        ("a\\..\\..\\b", "no plain name"),
        ("a\0b", "no plain name"),
        ("", "no plain name"),
        (".", "no plain (name|file)"),
        ("none.data", "which is missing"),
        ("folder", "no plain file|cannot be read"),
    ],
)
def test_places_that_are_refused(stored, location, message):
    (stored.parent / "folder").mkdir()
    with pytest.raises(ExportError, match=message) as error:
        read_source(changed(stored, location=location))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "-8"},
        {"offset": "99999999999"},
        {"length": "4"},
        {"length": "many"},
        {"offset": "0x10"},
        {"length": "99999999999999999999"},
    ],
)
def test_bytes_that_are_not_there(stored, entries):
    with pytest.raises(ExportError, match=r"should lie|names .* bytes|says wrongly"):
        read_source(changed(stored, **entries))


def test_links_are_not_followed(stored, tmp_path):
    data = tmp_path / "net.onnx.data"
    secret = data.rename(tmp_path / "elsewhere")
    data.symlink_to(secret)
    with pytest.raises(ExportError, match="is a link"):
        read_source(stored)
    data.unlink()
    (tmp_path / "real").mkdir()
    secret.rename(tmp_path / "real" / "data")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    with pytest.raises(ExportError, match="linked is a link"):
        read_source(changed(stored, location="linked/data"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_does_not_hang(stored):
    os.mkfifo(stored.parent / "pipe")
    with pytest.raises(ExportError, match="no plain file"):
        read_source(changed(stored, location="pipe"))


def test_all_files_together_are_bounded(stored, monkeypatch):
    """A hundred tensors may name the same bytes."""
    whole = stored.stat().st_size + (stored.parent / "net.onnx.data").stat().st_size
    monkeypatch.setattr(reading, "MAX_MODEL_BYTES", whole)
    model = read_source(stored).model
    held = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    monkeypatch.setattr(reading, "MAX_MODEL_BYTES", stored.stat().st_size + held - 1)
    with pytest.raises(ExportError, match="all files of a network have at most"):
        read_source(stored)
    monkeypatch.setattr(reading, "MAX_MODEL_BYTES", 100)
    with pytest.raises(ExportError, match="more than the 100 that are allowed"):
        read_source(stored)


def test_sizes_that_no_machine_has(stored):
    model = onnx.load(stored, load_external_data=False)
    model.graph.initializer[0].dims[0] = 1 << 60
    stored.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="all files of a network have at most"):
        read_source(stored)
    model.graph.initializer[0].data_type = TensorProto.STRING
    stored.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError):
        read_source(stored)


def test_what_is_no_network(tmp_path):
    with pytest.raises(ExportError, match="network not found"):
        read_source(tmp_path / "none.onnx")
    with pytest.raises(ExportError, match="cannot be read"):
        read_source(tmp_path)
    (tmp_path / "text.onnx").write_bytes(b"\x08\x08 this is no protobuf \xff\xff")
    with pytest.raises(ExportError, match="not an ONNX file"):
        read_source(tmp_path / "text.onnx")
