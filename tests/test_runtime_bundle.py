"""Bundles, sessions and embedders on a device: what is opened was checked, and what was asked is what runs."""

import json
import sys
import zipfile
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import BundleError, ImageError, MissingPackageError, ProviderError
from edgeface.export.graph import with_contract
from edgeface.files import sha256
from edgeface.manifest import EmbedderContract, FileEntry, Manifest, PrecisionEntry, Threshold
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import MAX_BATCH, bundle_embedder, open_embedder
from edgeface.runtime.providers.session import open_session


def mean_colour_network():
    """An embedder small enough to check by hand: the mean red, green and blue of a face, to unit length."""
    nodes = [
        helper.make_node("Cast", ["faces"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("ReduceL2", ["mean", "one"], ["length"], keepdims=1),
        helper.make_node("Div", ["mean", "length"], ["embeddings"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["batch", 112, 112, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", 3])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def embedder_bytes():
    return with_contract(mean_colour_network(), 3).SerializeToString()


def write_bundle(folder, **changes):
    data = embedder_bytes()
    space = open_session(data, provider="cpu").metadata["edgeface.space"]
    facts: dict[str, Any] = {
        "name": "test",
        "space": space,
        "embedder": EmbedderContract(dimension=3),
        "precisions": {
            name: PrecisionEntry(
                file=f"{name}.onnx", parity_images=1, min_cosine=1, mean_cosine=1, latency_ms={"cpu": latency}
            )
            for name, latency in (("fp32", 3.0), ("int8", 1.0))
        },
        "thresholds": tuple(
            Threshold(
                asked_fmr=fmr,
                fmr=fmr,
                cosine=c,
                interval=(c, c),
                gallery="int8",
                precision="int8",
                pairs=9,
                data="test",
            )
            for fmr, c in ((1e-2, 0.3), (1e-3, 0.4))
        ),
        "opset": 18,
        "ir_version": 10,
        "files": {name: FileEntry(sha256=sha256(data), bytes=len(data)) for name in ("fp32.onnx", "int8.onnx")},
    } | changes
    manifest = Manifest(**facts)
    folder.mkdir()
    for name in ("fp32.onnx", "int8.onnx"):
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_bytes(manifest.to_json())
    return folder


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "b")


def test_embeds_by_hand(bundle):
    embedder, precision = bundle_embedder(open_bundle(bundle))
    assert precision == "int8"  # measured to be the fastest
    faces = np.zeros((2, 112, 112, 3), np.uint8)
    faces[0, ..., 0], faces[1, ..., 1:] = 100, 7
    np.testing.assert_allclose(embedder.embed(faces), [[1, 0, 0], [0, 0.5**0.5, 0.5**0.5]], atol=1e-6)


def test_batches_of_any_size(bundle):
    embedder, _ = bundle_embedder(open_bundle(bundle))
    faces = np.random.default_rng(0).integers(0, 256, (2 * MAX_BATCH + 3, 112, 112, 3), np.uint8)
    single = np.concatenate([embedder.embed(face[None]) for face in faces])
    np.testing.assert_allclose(embedder.embed(faces), single, atol=1e-6)
    assert embedder.embed(faces[:0]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(1, 3, 112, 112), (112, 112, 3), (1, 96, 112, 3)])
def test_faces_of_another_shape_are_refused(bundle, shape):
    embedder, _ = bundle_embedder(open_bundle(bundle))
    with pytest.raises(ImageError, match="align them first"):
        embedder.embed(np.zeros(shape, np.uint8))


def test_a_zip_is_a_bundle_too(bundle, tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for file in bundle.iterdir():
            archive.write(file, file.name)
    opened = open_bundle(tmp_path / "b.zip")
    opened.verify()
    assert bundle_embedder(opened)[0].dimension == 3


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_flipped_byte_is_noticed(bundle, place):
    data = bytearray((bundle / "int8.onnx").read_bytes())
    data[place] ^= 1
    (bundle / "int8.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"int8.onnx.*changed"):
        bundle_embedder(open_bundle(bundle), precision="int8")
    bundle_embedder(open_bundle(bundle), precision="fp32")  # the other one is whole


def test_a_truncated_file_is_noticed(bundle):
    (bundle / "int8.onnx").write_bytes((bundle / "int8.onnx").read_bytes()[:-7])
    with pytest.raises(BundleError, match=r"int8.onnx.*bytes"):
        open_bundle(bundle).verify()


def test_a_missing_file_is_named(bundle):
    (bundle / "fp32.onnx").unlink()
    with pytest.raises(BundleError, match=r"fp32.onnx is missing"):
        open_bundle(bundle).verify()


def test_links_are_refused(bundle, tmp_path):
    (bundle / "fp32.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "fp32.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match="symbolic link"):
        open_bundle(bundle).verify()


@pytest.mark.parametrize("name", ["../evil.onnx", "/etc/passwd", "a/b.onnx", "..", "manifest.json", ""])
def test_paths_that_leave_the_bundle_are_refused(tmp_path, name):
    facts = json.loads((write_bundle(tmp_path / "b") / "manifest.json").read_text())
    facts["files"][name] = facts["files"]["fp32.onnx"]
    with pytest.raises(BundleError, match="not a plain file name"):
        Manifest.parse(json.dumps(facts).encode())


def test_another_schema_version(bundle):
    facts = json.loads((bundle / "manifest.json").read_text()) | {"schema_version": 99}
    (bundle / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(BundleError, match="schema version 99"):
        open_bundle(bundle)


@given(st.binary(max_size=60))
def test_any_bytes_as_a_manifest_give_one_line(data):
    with pytest.raises(BundleError, match="not a valid manifest"):
        Manifest.parse(data)


def test_a_network_of_another_space(tmp_path):
    folder = write_bundle(tmp_path / "b", space="0" * 64)
    with pytest.raises(BundleError, match="another embedding space"):
        bundle_embedder(open_bundle(folder))


def test_thresholds(bundle):
    manifest = open_bundle(bundle).manifest
    assert manifest.threshold_for("int8").cosine == 0.4
    assert manifest.threshold_for("int8", 1e-2).cosine == 0.3
    with pytest.raises(BundleError, match=r"no threshold for FMR 0.1.*0.001, 0.01"):
        manifest.threshold_for("int8", 0.1)
    with pytest.raises(BundleError, match="no threshold for fp32"):
        manifest.threshold_for("fp32")


def test_unknown_names(bundle):
    with pytest.raises(BundleError, match="has no int4; it has: fp32, int8"):
        bundle_embedder(open_bundle(bundle), precision="int4")
    with pytest.raises(BundleError, match="bundle not found"):
        open_bundle(bundle / "none")


def test_a_network_without_contract():
    with pytest.raises(BundleError, match="no edgeface contract"):
        open_embedder(mean_colour_network().SerializeToString(), provider="cpu")


def test_a_network_that_breaks_its_contract():
    model = with_contract(mean_colour_network(), 4)
    with pytest.raises(BundleError, match="does not meet its contract"):
        open_embedder(model.SerializeToString(), provider="cpu")


@pytest.mark.parametrize("data", [b"", b"junk", embedder_bytes()[:200]])
def test_bytes_that_are_no_network(data):
    with pytest.raises(BundleError, match="not a network"):
        open_session(data, provider="cpu")


def test_an_asked_provider_that_is_missing_is_an_error():
    with pytest.raises(ProviderError, match=r"cuda is not in the installed.*edgeface\[cuda\]"):
        open_session(embedder_bytes(), provider="cuda")


def test_without_onnxruntime_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"edgeface\[cpu\]"):
        open_session(embedder_bytes())


def test_the_network_of_this_test_is_valid():
    onnx.checker.check_model(mean_colour_network(), full_check=True)
