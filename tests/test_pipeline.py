"""From a checkpoint and faces to a bundle on disk, and back through the runtime."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from edgeface.data import InMemoryFaces, make_pairs
from edgeface.data.synthetic import crops
from edgeface.errors import BundleError, ExportError, UnknownNameError
from edgeface.evaluation.assessment import Plan, assess
from edgeface.evaluation.items import face_items
from edgeface.evaluation.models import open_model
from edgeface.evaluation.verification import rate_name, verify_pairs
from edgeface.export.pipeline import ExportSettings, LabelledPairs, export_bundle
from edgeface.export.quantization.calibration import draw_faces
from edgeface.export.sources import checkpoint_network
from edgeface.losses import build_loss
from edgeface.losses.objective import Objective
from edgeface.metrics import cosine_scores
from edgeface.models import build_model
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.canary import check_canaries
from edgeface.runtime.embedder import bundle_embedder
from edgeface.training.checkpoint import CheckpointInfo, save_checkpoint


@pytest.fixture(scope="module")
def faces():
    images, labels = crops(12, 8, seed=3)
    return InMemoryFaces(images, labels, name="drawn")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, faces):
    """An untrained network with settled batch statistics: drawn people differ enough for it."""
    torch.manual_seed(0)
    backbone = build_model("resnet-nano", 32).train()
    with torch.no_grad():
        for _ in range(30):
            backbone(torch.from_numpy(faces.images).permute(0, 3, 1, 2).float() / 127.5 - 1)
    info = CheckpointInfo(
        model="resnet-nano",
        embedding_size=32,
        classes=12,
        faces=len(faces),
        loss="arcface",
        data="drawn",
        step=1,
        epoch=1,
        seconds=0.0,
        accuracy=None,
        best_accuracy=None,
        config={},
        edgeface="test",
    )
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    save_checkpoint(folder, info, backbone.eval(), Objective(build_loss("arcface", 12, 32), 1.0, 0.0).state_dict())
    return folder


@pytest.fixture(scope="module")
def labelled(faces):
    return LabelledPairs(faces, make_pairs(faces, 400), "drawn people")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, checkpoint, faces, labelled):
    out = tmp_path_factory.mktemp("bundles") / "a.bundle"
    settings = ExportSettings("a", precisions=("fp32", "fp16", "int8"), fmr=(0.1, 1e-3))
    export_bundle(checkpoint_network(checkpoint), out, settings, faces.images[:32], "drawn", labelled)
    return out


def test_the_bundle_is_whole_and_opens(bundle):
    opened = open_bundle(bundle)
    opened.verify()
    assert sorted(p.name for p in bundle.iterdir()) == sorted([*opened.manifest.files, "manifest.json"])
    assert list(opened.manifest.precisions) == ["fp32", "fp16", "int8"]
    assert [check.state for check in check_canaries(opened)] == ["same"] * 3
    assert opened.manifest.opset == 18
    spaces = {bundle_embedder(opened, precision=name)[0].space for name in opened.manifest.precisions}
    assert spaces == {opened.manifest.space}


def test_every_precision_agrees_with_the_checkpoint(bundle, checkpoint, faces):
    reference = open_model(checkpoint).embedder.embed(faces.images)
    for precision, least in (("fp32", 0.99999), ("fp16", 0.999), ("int8", 0.9)):
        embeddings = open_model(bundle, precision=precision, provider="cpu").embedder.embed(faces.images)
        assert cosine_scores(reference, embeddings).min() > least
        entry = open_bundle(bundle).manifest.precisions[precision]
        assert entry.min_cosine > least and entry.parity_images == 32


def test_precisions_and_the_checkpoint_are_compared_pair_by_pair(bundle, checkpoint, labelled):
    plan = Plan("drawn", face_items(labelled.faces), labelled.pairs, fmr=0.1, replicates=100)
    fp32, int8 = (open_model(bundle, precision=name, provider="cpu") for name in ("fp32", "int8"))
    found = assess(plan, fp32, int8).comparison
    assert found and found.agreement
    assert 0.9 < found.agreement.minimum < found.agreement.mean < 1  # one space, and not one network
    original = assess(plan, open_model(checkpoint), fp32)
    assert original.provider == "torch" and original.comparison
    assert original.comparison.agreement is None  # a checkpoint names no space
    assert original.comparison.flips == ()
    assert all(abs(difference.value) < 1e-3 for difference in original.comparison.differences)


def test_thresholds_hold_for_the_precision_that_runs(bundle, labelled):
    manifest = open_bundle(bundle).manifest
    for precision in manifest.precisions:
        embedder = open_model(bundle, precision=precision, provider="cpu").embedder
        report = verify_pairs(embedder, labelled.faces, labelled.pairs)
        threshold = manifest.threshold_for(precision, 0.1)
        impostors = report.scores[~report.same]
        assert np.mean(impostors >= threshold.cosine) <= 0.1
        assert np.mean(impostors >= threshold.cosine - 0.02) > np.mean(impostors >= threshold.cosine)
        tight = manifest.threshold_for(precision, 1e-3)
        assert tight.fmr == pytest.approx(3 / len(impostors))  # 200 pairs support no less, and it says so


def test_the_card_says_what_the_manifest_says(bundle):
    card = (bundle / "MODEL_CARD.md").read_text()
    manifest = open_bundle(bundle).manifest
    for entry in manifest.precisions.values():
        assert entry.accuracy is not None
        assert f"{entry.min_cosine:.5f}" in card and f"{entry.accuracy.accuracy:.2%}" in card
    assert "too few pairs for 0.001" in card


def test_networks_are_reproducible(bundle, tmp_path, checkpoint, faces, labelled):
    settings = ExportSettings("a", precisions=("fp32", "int8"), fmr=(0.1,))
    export_bundle(checkpoint_network(checkpoint), tmp_path / "b", settings, faces.images[:32], "drawn", labelled)
    for name in ("embedder.fp32.onnx", "embedder.int8.onnx"):
        assert (tmp_path / "b" / name).read_bytes() == (bundle / name).read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_graph_that_is_another_network_is_refused(tmp_path, checkpoint, faces, precision):
    network = checkpoint_network(checkpoint)
    other = dataclasses.replace(network, reference=lambda pictures: network.reference(pictures)[:, ::-1])
    with pytest.raises(ExportError, match="not the same network"):
        export_bundle(other, tmp_path / "b", ExportSettings("a", precisions=(precision,)), faces.images[:16], "drawn")
    assert not list(tmp_path.iterdir())


def test_without_labels_there_are_no_thresholds(tmp_path, checkpoint, faces):
    settings = ExportSettings("a", precisions=("fp32",))
    manifest = export_bundle(checkpoint_network(checkpoint), tmp_path / "b", settings, faces.images[:16], "drawn")
    assert manifest.thresholds == () and manifest.precisions["fp32"].accuracy is None
    with pytest.raises(BundleError, match="no threshold"):
        manifest.threshold_for("fp32")


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path, checkpoint, faces):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(ExportError, match="exists and is not a bundle"):
        export_bundle(checkpoint_network(checkpoint), tmp_path / "mine", ExportSettings("a"), faces.images, "drawn")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_failed_export_leaves_the_old_bundle(bundle, checkpoint, faces):
    before = json.loads((bundle / "manifest.json").read_text())
    with pytest.raises(ExportError, match="at least 16"):
        export_bundle(checkpoint_network(checkpoint), bundle, ExportSettings("b"), faces.images[:3], "drawn")
    assert json.loads((bundle / "manifest.json").read_text()) == before
    assert [p.name for p in bundle.parent.iterdir()] == [bundle.name]


def test_unknown_precision():
    with pytest.raises(UnknownNameError, match="fp16, fp32, int8"):
        ExportSettings("a", precisions=("int4",))


def test_calibration_passes_over_broken_pictures(tmp_path):
    from edgeface.data import open_faces
    from edgeface.images import write_image

    pictures = np.random.default_rng(0).integers(0, 256, (20, 112, 112, 3)).astype(np.uint8)
    for index, picture in enumerate(pictures):
        write_image(tmp_path / f"{index:02}.png", picture)
    (tmp_path / "03.png").write_bytes(b"broken")
    drawn = draw_faces(open_faces(tmp_path), 19)
    assert len(drawn.images) == 19 and drawn.broken == 1
    assert {p.tobytes() for p in drawn.images} == {p.tobytes() for n, p in enumerate(pictures) if n != 3}
    for index in range(5, 20):
        (tmp_path / f"{index:02}.png").unlink()
    with pytest.raises(ExportError, match=r"at least 16 .* gives 4 .*; the first that cannot be used"):
        draw_faces(open_faces(tmp_path), 19)


@pytest.mark.parametrize(("rate", "name"), [(0.1, "1e-1"), (1e-6, "1e-6"), (0.025, "2.5e-2")])
def test_rates_are_named_as_in_the_field(rate, name):
    assert rate_name(rate) == name
