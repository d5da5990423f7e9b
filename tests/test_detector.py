"""Detectors at run time: fitting, suppression, decoding, formats, and agreement with OpenCV's own YuNet."""

from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.data.synthetic import scene
from edgeface.errors import BundleError, ConfigError, ExportError, ImageError
from edgeface.evaluation.detection import TorchDetector
from edgeface.export.cleaning import serialize, set_metadata
from edgeface.export.detector import export_detector
from edgeface.images import read_image
from edgeface.models.detector import STRIDES, DetectorShape, FaceDetector
from edgeface.runtime.bundle import BUILT_IN_DETECTOR
from edgeface.runtime.detection.detections import (
    PART_SHARE,
    Detections,
    DetectorSettings,
    best,
    fit,
    steady_landmarks,
    without_parts,
)
from edgeface.runtime.detection.detector import EdgeDetector, FixedDetector, YuNetDetector, open_detector
from edgeface.runtime.detection.edge_detector import FORMAT_KEY, KINDS, MIN_SCORE_KEY, STRIDES_KEY, decode, find_faces
from edgeface.runtime.providers.session import _IDENTITY_NETWORK

TINY = DetectorShape(widths=(4, 4, 8, 8, 8), depths=(1, 0, 0), neck=8)


def detections(rng, count, size=200.0):
    boxes = np.hstack([rng.uniform(0, size, (count, 2)), rng.uniform(1, size / 2, (count, 2))]).astype(np.float32)
    landmarks = rng.uniform(0, size, (count, 5, 2)).astype(np.float32)
    return Detections(boxes, rng.uniform(0, 1, count).astype(np.float32), landmarks)


def slow_iou(first, second):
    x = max(0.0, min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0]))
    y = max(0.0, min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1]))
    return x * y / (first[2] * first[3] + second[2] * second[3] - x * y)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.floats(0.05, 1.0), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_best_is_greedy_suppression(seed, count, iou, max_faces):
    found = detections(np.random.default_rng(seed), count)
    kept: list[int] = []
    for row in sorted(range(count), key=lambda row: -found.scores[row]):
        if all(slow_iou(found.boxes[row].tolist(), found.boxes[other].tolist()) <= iou for other in kept):
            kept.append(row)
    kept = kept[:max_faces]
    result = best(found, iou, max_faces)
    np.testing.assert_array_equal(result.boxes, found.boxes[kept])
    np.testing.assert_array_equal(result.landmarks, found.landmarks[kept])
    assert (np.diff(result.scores) <= 0).all()


def test_steady_landmarks_are_the_weighted_mean_over_one_face():
    rng = np.random.default_rng(1)
    boxes = np.array([[10, 10, 40, 50], [12, 9, 40, 50], [11, 30, 40, 50], [100, 80, 30, 30]], np.float32)
    scores = np.array([0.9, 0.6, 0.7, 0.8], np.float32)
    found = Detections(boxes, scores, rng.normal(0, 9, (4, 5, 2)).astype(np.float32))
    steady = steady_landmarks(best(found, 0.3, 10), found)
    assert len(steady) == 2  # the third overlaps the first by 0.43: suppressed, but not the same view of it
    mean = (0.81 * found.landmarks[0] + 0.36 * found.landmarks[1]) / 1.17
    np.testing.assert_allclose(steady.landmarks[0], mean, rtol=1e-5)
    np.testing.assert_allclose(steady.landmarks[1], found.landmarks[3], rtol=1e-5)
    assert len(steady_landmarks(Detections.empty(), Detections.empty())) == 0


@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_parts_of_better_faces_are_dropped(seed, count):
    found = best(detections(np.random.default_rng(seed), count, size=120.0), 1.0, 100)
    boxes = found.boxes.astype(float)
    kept = []
    for row, (x, y, w, h) in enumerate(boxes):
        shares = [
            max(0, min(x + w, bx + bw) - max(x, bx)) * max(0, min(y + h, by + bh) - max(y, by)) / (w * h)
            for bx, by, bw, bh in boxes[:row]
        ]
        if all(share < PART_SHARE for share in shares):
            kept.append(row)
    np.testing.assert_array_equal(without_parts(found).boxes, found.boxes[kept])


def fake_network(frame, side):
    """A network that sees one square face of this side, in pixels, at the brightest cell of stride 16."""
    maps = []
    for stride in (8, 16, 32):
        rows, columns = frame.shape[0] // stride, frame.shape[1] // stride
        logits = np.full((1, rows, columns), -9, np.float32)
        if stride == 16:
            row, column = np.unravel_index(frame[:, :, 0].argmax(), frame.shape[:2])
            logits[0, row // stride, column // stride] = 3
        sides, points = np.full((4, rows, columns), side / 2 / stride), np.zeros((10, rows, columns))
        maps += [logits, sides.astype(np.float32), points.astype(np.float32)]
    return maps


@pytest.mark.parametrize(
    ("max_face", "side", "frames", "sizes"),
    [
        (480, 150, [(480, 640)], [150]),  # a larger one has no room
        (256, 150, [(480, 640), (256, 320)], [150, 300]),
        (256, 100, [(480, 640), (256, 320)], [100]),  # less than 0.4 of 256 in the halved frame: seen before
        (200, 90, [(480, 640), (256, 320), (128, 160)], [90, 180, 360]),
    ],
)
def test_large_faces_are_looked_for_in_halved_frames(max_face, side, frames, sizes):
    image = np.zeros((480, 640, 3), np.uint8)
    image[192:208, 256:272] = 255
    seen = []

    def run(frame):
        seen.append(frame.shape[:2])
        return fake_network(frame, side)

    found = find_faces(image, run, STRIDES, DetectorSettings(), max_face)
    assert seen == frames
    assert sorted(found.boxes[:, 2].round().tolist()) == sizes
    # The cell's centre in the halved frames is up to half a cell away from that of the full one.
    np.testing.assert_allclose(found.boxes[:, :2] + found.boxes[:, 2:] / 2, [[264, 200]] * len(sizes), atol=33)


def test_select_takes_rows_of_everything():
    found = detections(np.random.default_rng(0), 5)
    part = found.select(found.scores > 0.5)
    assert len(part) == (found.scores > 0.5).sum() and len(part.boxes) == len(part.landmarks) == len(part)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(32, 200))
@settings(max_examples=60, deadline=None)
def test_fit_pads_to_multiples_and_keeps_the_picture(height, width, max_side):
    image = np.full((height, width, 3), 200, np.uint8)
    fitted = fit(image, max_side)
    rows, columns = fitted.image.shape[:2]
    assert rows % 32 == 0 and columns % 32 == 0
    shown = (fitted.image > 0).max(axis=2)
    high, wide = int(shown.max(axis=1).sum()), int(shown.max(axis=0).sum())
    assert shown.sum() == high * wide and (fitted.image[:high, :wide] == 200).all()
    assert max(high, wide) == min(max(height, width), max_side)
    assert rows - high < 32 and columns - wide < 32
    np.testing.assert_allclose(fitted.ratio, [width / wide, height / high], rtol=1e-6)


def test_restore_undoes_the_shrinking():
    image = np.zeros((480, 640, 3), np.uint8)
    image[90:110, 300:340] = 255  # centre (319.5, 99.5)
    fitted = fit(image, 160)
    weight = fitted.image[:, :, 0].astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    centre = [(columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()]
    found = Detections(
        np.array([[10, 20, 5, 6]], np.float32), np.ones(1, np.float32), np.full((1, 5, 2), centre, np.float32)
    )
    restored = fitted.restore(found)
    np.testing.assert_allclose(restored.landmarks[0, 0], [319.5, 99.5], atol=0.05)
    np.testing.assert_allclose(restored.boxes[0], [41.5, 81.5, 20, 24], atol=1e-4)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_fit_refuses_what_is_no_picture(image):
    with pytest.raises(ImageError, match="uint8"):
        fit(image, 640)


@pytest.mark.parametrize(
    "wrong", [{"min_score": 0}, {"min_score": 1.5}, {"max_side": 16}, {"iou": 0}, {"max_faces": 0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DetectorSettings(**wrong)


def test_the_fake_says_what_it_was_told():
    first, second = (detections(np.random.default_rng(seed), 2) for seed in (0, 1))
    image = np.zeros((8, 9, 3), np.uint8)
    fake = FixedDetector([first, second])
    assert fake.detect(image) is first and fake.detect(image) is second and len(fake.detect(image)) == 0
    assert fake.seen == [(8, 9, 3)] * 3
    always = FixedDetector(first)
    assert always.detect(image) is always.detect(image)


# Decoding, against loops over every cell.


def fake_yunet(rng, rows, columns):
    """A YuNet session that answers with noise, and its outputs by name."""
    outputs = {}
    for stride in (8, 16, 32):
        cells = (rows // stride) * (columns // stride)
        outputs[f"cls_{stride}"] = rng.uniform(-0.2, 1.2, (1, cells, 1)).astype(np.float32)
        outputs[f"obj_{stride}"] = rng.uniform(-0.2, 1.2, (1, cells, 1)).astype(np.float32)
        outputs[f"bbox_{stride}"] = rng.normal(0, 1, (1, cells, 4)).astype(np.float32)
        outputs[f"kps_{stride}"] = rng.normal(0, 1, (1, cells, 10)).astype(np.float32)
    session = SimpleNamespace(
        inputs=(SimpleNamespace(name="input", dtype="tensor(float)", shape=(1, 3, "h", "w")),),
        outputs=tuple(SimpleNamespace(name=name) for name in outputs),
        run=lambda feeds: list(outputs.values()),
    )
    return session, outputs


def slow_yunet(outputs, columns, min_score):
    boxes, scores, landmarks = [], [], []
    for stride in (8, 16, 32):
        wide = columns // stride
        for cell in range(outputs[f"cls_{stride}"].shape[1]):
            cls, obj = (min(1.0, max(0.0, float(outputs[f"{k}_{stride}"][0, cell, 0]))) for k in ("cls", "obj"))
            score = (cls * obj) ** 0.5
            if score < min_score:
                continue
            row, column = divmod(cell, wide)
            dx, dy, dw, dh = outputs[f"bbox_{stride}"][0, cell].tolist()
            w, h = np.exp(dw) * stride, np.exp(dh) * stride
            boxes.append([(column + dx) * stride - w / 2, (row + dy) * stride - h / 2, w, h])
            points = outputs[f"kps_{stride}"][0, cell].tolist()
            landmarks.append(
                [[(column + points[2 * k]) * stride, (row + points[2 * k + 1]) * stride] for k in range(5)]
            )
            scores.append(score)
    order = np.argsort(-np.array(scores))
    return np.array(boxes)[order], np.array(scores)[order], np.array(landmarks)[order]


def test_yunet_decodes_like_the_slow_version():
    session, outputs = fake_yunet(np.random.default_rng(3), 64, 96)
    found = YuNetDetector(session, DetectorSettings(0.7, 640, 1.0, 1000)).detect(np.zeros((50, 70, 3), np.uint8))
    boxes, scores, landmarks = slow_yunet(outputs, 96, 0.7)
    assert len(scores) > 10
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.landmarks, landmarks, rtol=1e-4, atol=1e-3)


def test_yunet_of_fixed_size_gets_that_size():
    session, _ = fake_yunet(np.random.default_rng(3), 64, 96)
    session.inputs[0].shape = (1, 3, 64, 96)
    seen = {}
    answer = session.run
    session.run = lambda feeds: seen.update(feeds) or answer(feeds)
    YuNetDetector(session, DetectorSettings()).detect(np.zeros((500, 200, 3), np.uint8))
    assert seen["input"].shape == (1, 3, 64, 96)


def test_edge_decodes_like_the_slow_version():
    rng = np.random.default_rng(5)
    maps = []
    for stride in STRIDES:
        rows, columns = 64 // stride, 96 // stride
        maps += [rng.normal(0, 2, (1, rows, columns)), rng.uniform(0.1, 3, (4, rows, columns))]
        maps += [rng.normal(0, 1, (10, rows, columns))]
    maps = [array.astype(np.float32) for array in maps]
    found = decode(maps, STRIDES, 0.6)
    expected = []
    for level, stride in enumerate(STRIDES):
        scores, sides, points = (array.astype(float) for array in maps[3 * level : 3 * level + 3])
        for row in range(64 // stride):
            for column in range(96 // stride):
                score = 1 / (1 + np.exp(-scores[0, row, column]))
                if score < 0.6:
                    continue
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                left, top, right, bottom = (sides[:, row, column] * stride).tolist()
                offsets = points[:, row, column] * stride
                places = [[x + offsets[2 * k], y + offsets[2 * k + 1]] for k in range(5)]
                expected.append((score, [x - left, y - top, left + right, top + bottom], places))
    assert len(expected) > 20
    np.testing.assert_allclose(found.scores, [e[0] for e in expected], rtol=1e-5)
    np.testing.assert_allclose(found.boxes, [e[1] for e in expected], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.landmarks, [e[2] for e in expected], rtol=1e-4, atol=1e-3)


# YuNet itself.


@pytest.fixture(scope="module")
def yunet_path(shared):
    return shared / "peers" / "yunet-2026may.onnx"


def opencv_faces(path, image):
    detector = cv2.FaceDetectorYN.create(str(path), "", (image.shape[1], image.shape[0]), 0.6, 0.3, 5000)
    faces = detector.detect(np.ascontiguousarray(image[:, :, ::-1]))[1]
    return faces[np.argsort(-faces[:, 14], kind="stable")]


def sample_images(shared):
    samples = shared / "samples"
    images = [read_image(path) for path in sorted(samples.glob("*.jpg"))]
    images.append(images[0][:301, :455])  # odd sides
    video = cv2.VideoCapture(str(samples / "street.mp4"))
    for index in (0, 50):
        video.set(cv2.CAP_PROP_POS_FRAMES, index)
        images.append(np.ascontiguousarray(video.read()[1][:, :, ::-1]))
    return images


def test_yunet_agrees_with_opencv(shared, yunet_path):
    detector = open_detector(yunet_path.read_bytes(), provider="cpu", max_side=10_000)
    assert isinstance(detector, YuNetDetector) and detector.settings.min_score == 0.6
    total = 0
    for image in sample_images(shared):
        found, expected = detector.detect(image), opencv_faces(yunet_path, image)
        assert len(found) == len(expected)
        np.testing.assert_allclose(found.scores, expected[:, 14], atol=1e-4)
        np.testing.assert_allclose(found.boxes, expected[:, :4], atol=0.02)
        np.testing.assert_allclose(found.landmarks.reshape(-1, 10), expected[:, 4:14], atol=0.02)
        total += len(found)
    assert total > 20


def test_yunet_finds_the_same_faces_in_a_shrunk_picture(shared, yunet_path):
    image = read_image(shared / "samples" / "six-people.jpg")
    full = open_detector(yunet_path.read_bytes(), provider="cpu", max_side=10_000).detect(image)
    half = open_detector(yunet_path.read_bytes(), provider="cpu", max_side=640, max_faces=3).detect(image)
    assert len(full) == 6 and len(half) == 3
    for box, landmarks in zip(half.boxes, half.landmarks, strict=True):
        assert max(slow_iou(box.tolist(), other.tolist()) for other in full.boxes) > 0.75
        distance = np.linalg.norm(full.landmarks - landmarks, axis=2).mean(axis=1).min()
        assert distance < 0.1 * box[2]  # its landmarks are no steadier than that


# Our own format.


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = FaceDetector(TINY).train()
    with torch.no_grad():
        for _ in range(30):  # batch statistics that are not those of a new network
            network(torch.rand(2, 3, 64, 64))
    for name, weight in network.named_parameters():  # so that noise gives some faces, not none or all
        if name.endswith("scores.weight"):
            torch.nn.init.normal_(weight, std=1.0)
        elif name.endswith("scores.bias"):
            torch.nn.init.constant_(weight, 0.0)
    return network.eval()


@pytest.fixture(scope="module")
def exported(network):
    return export_detector(network, min_score=0.625)


def with_metadata(model, **values):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    set_metadata(changed, {key.replace("_", ".", 1): value for key, value in values.items()})
    return changed.SerializeToString()


def test_the_export_is_the_network(network, exported):
    detector = open_detector(serialize(exported), provider="cpu", iou=0.9)
    assert isinstance(detector, EdgeDetector)
    assert detector.settings.min_score == 0.625
    reference = TorchDetector(network, detector.settings)
    for height, width in ((1, 1), (64, 64), (97, 201), (700, 130)):
        image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
        got, expected = detector.detect(image), reference.detect(image)
        assert len(expected) > 0
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(got.boxes, expected.boxes, rtol=1e-3, atol=0.05)
        np.testing.assert_allclose(got.landmarks, expected.landmarks, rtol=1e-3, atol=0.05)


def test_the_export_is_lean(exported):
    kinds = {node.op_type for node in exported.graph.node}
    assert kinds <= {"Transpose", "Cast", "Mul", "Conv", "Relu", "Add", "Resize", "Exp"}  # no BatchNormalization
    assert not any(node.metadata_props or node.doc_string for node in exported.graph.node)
    assert b".py" not in exported.SerializeToString()
    assert [opset.version for opset in exported.opset_import if opset.domain == ""] == [18]
    shapes = {t.name: t.type.tensor_type.shape for t in exported.graph.output}
    assert set(shapes) == {f"{kind}_{stride}" for kind in KINDS for stride in STRIDES}


def test_training_mode_and_broken_weights_are_not_exported(network):
    with pytest.raises(ExportError, match="train mode"):
        export_detector(FaceDetector(TINY), min_score=0.5)
    broken = FaceDetector(TINY).eval()
    torch.nn.init.constant_(next(broken.parameters()), float("nan"))
    with pytest.raises(ExportError, match="not finite"):
        export_detector(broken, min_score=0.5)


def test_pictures_without_pixels_have_no_faces(exported):
    detector = open_detector(serialize(exported), provider="cpu")
    assert len(detector.detect(np.zeros((0, 5, 3), np.uint8))) == 0
    with pytest.raises(ImageError):
        detector.detect(np.zeros((5, 5), np.uint8))


def test_max_faces_keeps_the_best(exported):
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    everyone = open_detector(serialize(exported), provider="cpu").detect(image)
    few = open_detector(serialize(exported), provider="cpu", max_faces=2).detect(image)
    assert len(everyone) > 2
    np.testing.assert_array_equal(few.scores, everyone.scores[:2])


def test_what_is_no_detector_is_refused(exported):
    with pytest.raises(BundleError, match="not a face detector"):
        open_detector(_IDENTITY_NETWORK, provider="cpu")
    with pytest.raises(BundleError, match="detector/9"):
        open_detector(with_metadata(exported, edgeface_format="detector/9"), provider="cpu")
    with pytest.raises(BundleError, match="strides"):
        open_detector(with_metadata(exported, edgeface_strides="8,sixteen"), provider="cpu")
    with pytest.raises(BundleError, match="scores_4"):
        open_detector(with_metadata(exported, edgeface_strides="4,8,16,32"), provider="cpu")
    with pytest.raises(BundleError, match="min_score"):
        open_detector(with_metadata(exported, edgeface_min_score="high"), provider="cpu")
    with pytest.raises(BundleError, match="max_face"):
        open_detector(with_metadata(exported, edgeface_max_face="-1"), provider="cpu")
    assert {entry.key for entry in exported.metadata_props} == {FORMAT_KEY, STRIDES_KEY, MIN_SCORE_KEY}


# The detector that edgeface carries.


@pytest.fixture(scope="module")
def built_in():
    assert BUILT_IN_DETECTOR.stat().st_size <= 1_600_000
    return open_detector(BUILT_IN_DETECTOR.read_bytes(), provider="cpu", max_side=320)


def test_the_built_in_detector_finds_drawn_faces(built_in):
    faces = hits = false = 0
    for seed in range(40):
        drawn = scene(np.random.default_rng([99, seed]))
        found = built_in.detect(drawn.image)
        faces += len(drawn.faces)
        matched = 0
        for face in drawn.faces:
            overlaps = [slow_iou(face.box.tolist(), box.tolist()) for box in found.boxes]
            matched += bool(overlaps) and max(overlaps) > 0.5
        hits += matched
        false += len(found) - matched
    assert hits / faces > 0.95
    assert false <= 4


def test_the_built_in_detector_finds_real_people(shared, built_in):
    image = read_image(shared / "samples" / "six-people.jpg")
    yunet = open_detector((shared / "peers" / "yunet-2026may.onnx").read_bytes(), provider="cpu").detect(image)
    found = open_detector(BUILT_IN_DETECTOR.read_bytes(), provider="cpu").detect(image)
    assert len(yunet) == 6 and len(found) <= 7  # an ear may pass for a face
    errors = []
    for box, landmarks in zip(yunet.boxes, yunet.landmarks, strict=True):
        overlaps = [slow_iou(box.tolist(), other.tolist()) for other in found.boxes]
        face = int(np.argmax(overlaps))
        assert overlaps[face] > 0.6
        between_eyes = np.linalg.norm(landmarks[0] - landmarks[1])
        errors.append(np.linalg.norm(found.landmarks[face] - landmarks, axis=1).mean() / between_eyes)
    assert np.median(errors) < 0.2 and max(errors) < 0.4  # the largest ones are YuNet's, on tilted faces


@pytest.mark.parametrize(
    ("size_wh", "min_face", "max_side", "expected"),
    [
        ((640, 480), None, 640, 640),
        ((640, 480), 40, 4096, 384),  # a face of 40 px is 24 px then
        ((640, 480), 24, 4096, 640),
        ((640, 480), 20, 4096, 768),  # nothing is enlarged: `fit` sees to that
        ((1920, 1080), 40, 4096, 1152),
        ((1920, 1080), 40, 640, 640),
        ((1080, 1920), 80, 4096, 576),
        ((640, 480), 400, 4096, 128),
    ],
)
def test_pictures_are_shrunk_as_far_as_the_smallest_wanted_face_allows(size_wh, min_face, max_side, expected):
    options = DetectorSettings(max_side=max_side, min_face=min_face)
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    longest = options.longest_side(image, 24)
    assert longest == expected
    side = max(fit(image, longest).image.shape[:2])
    if min_face is not None and expected < max_side:
        assert side * min_face / max(size_wh) >= min(24, min_face)


def test_doubtful_boxes_are_reported_if_they_are_wanted():
    options = DetectorSettings(min_score=0.9, low_share=0.5)
    assert options.low_score == 0.45
    image = np.zeros((64, 64, 3), np.uint8)

    def run(frame):
        maps = fake_network(frame, 20)
        maps[3][0, 0, 0] = 0.5  # a score of 0.62
        maps[3][0, 3, 3] = 3.0  # 0.95
        return maps

    assert len(find_faces(image, run, STRIDES, options, 640)) == 2
    assert len(find_faces(image, run, STRIDES, DetectorSettings(min_score=0.9), 640)) == 1


@pytest.mark.parametrize("wrong", [{"min_face": 0}, {"low_share": 0}, {"low_share": 1.5}])
def test_settings_for_small_and_doubtful_faces_that_cannot_be_used(wrong):
    with pytest.raises(ConfigError):
        DetectorSettings(**wrong)
