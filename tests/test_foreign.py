"""Foreign networks that take another picture than the crop, or whose embeddings have to be spread."""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import ExportError
from edgeface.export.cleaning import serialize
from edgeface.export.foreign import adapt
from edgeface.export.preprocessing import Preprocessing
from edgeface.export.quantization.layers import find_layers
from edgeface.export.resampling import MAX_TILT_PX, Affine, interpolation
from edgeface.export.sources import ForeignEmbedder
from edgeface.export.spreading import OutputTransform
from edgeface.images import write_image
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import open_embedder
from tests.test_cli import fails, run
from tests.test_export import smooth_pictures

MATRIX = np.array([[0.4, 0.0, 1.3], [0.0, 0.31, -2.2]])
"""To 40 x 28, with rows and columns that the crop does not cover."""
SIZE_WH = (40, 28)
INNER, OUTER = 5, 3


def theirs(layout: str = "nchw", size_wh: tuple[int | str, int | str] = SIZE_WH) -> onnx.ModelProto:
    """Half the picture's resolution, then fixed random products: any error in place, order or layout changes it."""
    rng = np.random.default_rng(0)
    width, height = size_wh
    shape = ["n", 3, height, width] if layout == "nchw" else ["n", height, width, 3]
    numbers = 3 * SIZE_WH[0] * SIZE_WH[1]
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("Gemm", ["flat", "w", "b"], ["y"])],
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", INNER])],
        [
            numpy_helper.from_array(rng.normal(0, 0.002, (numbers, INNER)).astype(np.float32), "w"),
            numpy_helper.from_array(np.full(INNER, 2.0, np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def transform_file(path: Path, **changes: npt.NDArray[np.generic]) -> Path:
    rng = np.random.default_rng(1)
    arrays = {
        "mean": np.full(INNER, 0.4),
        "basis": rng.normal(0, 1, (INNER, OUTER)),
        "scale": np.array([3.0, 1.0, 0.2]),
    }
    np.savez(path, **(arrays | changes))
    return path


@pytest.fixture(scope="module")
def faces():
    return smooth_pictures()[:6]


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    np.save(tmp_path / "m.npy", MATRIX)
    return tmp_path / "m.npy"


def resample_slowly(face: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], size_wh: tuple[int, int]):
    """Bilinear, pixel by pixel, the border repeated."""
    result = np.zeros((size_wh[1], size_wh[0], 3))
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    for row in range(size_wh[1]):
        for column in range(size_wh[0]):
            x, y, _ = back @ (column, row, 1)
            left, top = int(np.floor(x)), int(np.floor(y))
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (1 - abs(x - left - dx)) * (1 - abs(y - top - dy))
                result[row, column] += weight * face[np.clip(top + dy, 0, 111), np.clip(left + dx, 0, 111)]
    return result


def resample_in_graph(affine: Affine, faces: npt.NDArray[np.uint8], size_wh: tuple[int, int]):
    graph = onnx.GraphProto(name="g")
    nodes, result = affine.nodes("pixels", size_wh, graph)
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 112, 112, 3]))
    graph.output.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, ["n", 3, size_wh[1], size_wh[0]]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"pixels": faces.astype(np.float32)})
    return made.transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("matrix", "size_wh"),
    [
        (MATRIX, SIZE_WH),
        (np.array([[1.5035, 0, -9.56], [0, 1.5035, -32.4]]), (150, 150)),
        (np.array([[1.0, 0, 0], [0, 1.0, 0]]), (112, 112)),
        (np.array([[2.0, 0, 30.5], [0, 0.7, 11.0]]), (160, 64)),
    ],
)
def test_resampling_is_that_of_opencv_and_of_a_slow_loop(faces, matrix, size_wh):
    affine = Affine(matrix)
    made = resample_in_graph(affine, faces, size_wh)
    theirs = [
        cv2.warpAffine(
            face.astype(np.float32), matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        for face in faces
    ]
    np.testing.assert_allclose(made, theirs, atol=0.02)
    np.testing.assert_array_equal(affine.warp(faces, size_wh), theirs)
    np.testing.assert_allclose(made[0], resample_slowly(faces[0], matrix, size_wh), atol=0.002)


def test_the_last_pixel_is_reached_and_repeated():
    weights = interpolation(4, 0.01, 0.0)  # at 0, 100, 200 and 300: the last two lie beyond
    assert [int(row.argmax()) for row in weights] == [0, 100, 111, 111]
    assert (weights.sum(axis=1) == 1).all()


def test_a_negligible_rotation_is_left_out_around_the_centre():
    angle = np.deg2rad(0.4)
    turned = 1.5 * np.array([[np.cos(angle), -np.sin(angle), 3.0], [np.sin(angle), np.cos(angle), -2.0]])
    affine = Affine(turned)
    assert affine.straight[0, 1] == affine.straight[1, 0] == 0
    centre = np.array([55.5, 55.5, 1])
    np.testing.assert_allclose(affine.straight @ centre, turned @ centre)
    corners = np.array([[x, y, 1] for x in (0, 111) for y in (0, 111)])
    moved = np.abs((turned - affine.straight) @ corners.T) / 1.5
    assert 0.3 < moved.max() < MAX_TILT_PX


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.array([[1.0, -0.02, 0], [0.02, 1.0, 0]]), "turns or shears the crop by up to 1.11 px"),
        (np.array([[1.0, 0.02, 0], [0, 1.0, 0]]), "turns or shears"),
        (np.array([[0.0, 1, 0], [1, 0, 0]]), "above 0"),
        (np.array([[-1.0, 0, 111], [0, 1, 0]]), "mirror"),
        (np.array([[1.0, 0, np.nan], [0, 1, 0]]), "not finite"),
        (np.eye(3), "2 x 3 matrix"),
        (np.array([["a", "b", "c"]] * 2), "of numbers"),
    ],
)
def test_matrices_that_are_refused(matrix, message):
    with pytest.raises(ExportError, match=message):
        Affine(matrix)


def test_files_of_a_matrix_that_are_refused(tmp_path, matrix):
    assert (Affine.read(matrix).matrix == MATRIX).all()
    with pytest.raises(ExportError, match="matrix not found"):
        Affine.read(tmp_path / "none.npy")
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "large.npy", np.zeros((200, 300)))
    (tmp_path / "cut.npy").write_bytes(matrix.read_bytes()[:-9])
    (tmp_path / "text.npy").write_text("1 0 0\n0 1 0\n")
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("pickle", "cut", "text", "empty"):
        with pytest.raises(ExportError, match=r"is not a \.npy file of a 2 x 3 matrix"):
            Affine.read(tmp_path / f"{name}.npy")
    with pytest.raises(ExportError, match="larger than"):
        Affine.read(tmp_path / "large.npy")


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_whole_graph_is_the_network_with_all_around_it(faces, layout, order, tmp_path):
    transform = transform_file(tmp_path / "t.npz")
    preprocessing = Preprocessing(layout, order, 100.0, 1 / 64, Affine(MATRIX), OutputTransform.read(transform))
    onnx.save(theirs(layout), tmp_path / "n.onnx")
    adapted = serialize(adapt(theirs(layout), preprocessing))
    made = open_embedder(adapted, provider="cpu").embed(faces)
    outside = ForeignEmbedder(tmp_path / "n.onnx", preprocessing, provider="cpu").embed(faces)
    assert made.shape == (len(faces), OUTER)
    np.testing.assert_allclose(made, outside, atol=1e-5)

    picture = np.stack([resample_slowly(face, MATRIX, SIZE_WH) for face in faces])
    picture = ((picture[..., ::-1] if order == "bgr" else picture) - 100) / 64
    w, b = (numpy_helper.to_array(tensor).astype(np.float64) for tensor in theirs().graph.initializer)
    raw = (picture.transpose(0, 3, 1, 2) if layout == "nchw" else picture).reshape(len(faces), -1) @ w + b
    arrays = np.load(transform)
    for row, embedding in zip(made, raw, strict=True):
        unit = embedding / np.linalg.norm(embedding)
        spread = ((unit - 0.8 * arrays["mean"]) @ arrays["basis"]) * arrays["scale"]
        np.testing.assert_allclose(row, spread / np.linalg.norm(spread), atol=1e-4)


def test_what_is_added_stays_in_float(tmp_path):
    transform = OutputTransform.read(transform_file(tmp_path / "t.npz"))
    adapted = adapt(theirs(), Preprocessing("nchw", "rgb", 0, 1, Affine(MATRIX), transform))
    assert {layer.kind for layer in find_layers(adapted).layers} == {"Gemm"}


def test_the_share_of_the_mean_comes_from_the_file(tmp_path):
    unit = np.eye(INNER, dtype=np.float32)[:1]
    results = {}
    for name, changes in (("none", {}), ("same", {"share": np.array(0.8)}), ("whole", {"share": np.array(1.0)})):
        transform = OutputTransform.read(transform_file(tmp_path / f"{name}.npz", **changes))
        results[name] = (transform.sha256, transform.apply(unit).tolist())
    assert results["none"] == results["same"]
    assert results["whole"][0] != results["none"][0] and results["whole"][1] != results["none"][1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"basis": np.ones((INNER, OUTER + 1))}, r"should hold mean \(T,\), basis \(T, D\)"),
        ({"mean": np.ones((1, INNER))}, "should hold mean"),
        ({"scale": np.array([1.0, np.inf, 1.0])}, "finite"),
        ({"share": np.array([0.8, 0.9])}, "one share"),
        ({"scale": np.array(["a", "b", "c"])}, "numbers alone"),
        ({"mean": np.array([{}] * INNER)}, "is not a .npz file"),
    ],
)
def test_transforms_that_are_refused(tmp_path, changes, message):
    with pytest.raises(ExportError, match=message):
        OutputTransform.read(transform_file(tmp_path / "t.npz", **changes))


def test_files_of_a_transform_that_are_refused(tmp_path):
    whole = transform_file(tmp_path / "t.npz").read_bytes()
    np.savez(tmp_path / "less.npz", mean=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("mean")
    for name in ("less.npz", "array.npy", "cut.npz", "text.npz"):
        with pytest.raises(ExportError, match=r"is not a \.npz file with mean, basis, scale"):
            OutputTransform.read(tmp_path / name)
    with pytest.raises(ExportError, match="no file"):
        OutputTransform.read(tmp_path / "none.npz")


def test_networks_that_do_not_fit(tmp_path):
    affine = Affine(MATRIX)
    with pytest.raises(ExportError, match=r"leaves its size open; .* --input-size HEIGHTxWIDTH"):
        adapt(theirs(size_wh=("w", "h")), Preprocessing("nchw", "rgb", 0, 1, affine))
    with pytest.raises(ExportError, match=r"nhwc needs \(N, height, width, 3\); check --input-layout"):
        adapt(theirs(), Preprocessing("nhwc", "rgb", 0, 1, affine))
    longer = transform_file(tmp_path / "t.npz", mean=np.ones(INNER + 1), basis=np.ones((INNER + 1, OUTER)))
    with pytest.raises(ExportError, match=f"embeddings of {INNER + 1} numbers, this network gives {INNER}"):
        adapt(theirs(), Preprocessing("nchw", "rgb", 0, 1, affine, OutputTransform.read(longer)))


class TestCommands:
    """The same from the command line."""

    @pytest.fixture
    def options(self, tmp_path, matrix):
        onnx.save(theirs(), tmp_path / "n.onnx")
        transform = transform_file(tmp_path / "t.npz")
        whole = ["--input-layout", "nchw", "--channel-order", "rgb", "--mean", "100", "--scale", "0.0156"]
        return [*whole, "--input-affine", matrix, "--output-transform", transform]

    @pytest.fixture
    def people(self, tmp_path):
        rng = np.random.default_rng(3)
        for index, picture in enumerate(smooth_pictures()):
            noisy = np.clip(picture + rng.normal(0, 9, picture.shape), 0, 255).astype(np.uint8)
            write_image(tmp_path / "people" / f"person {index % 24}" / f"{index}.png", noisy)
        return tmp_path / "people"

    def test_a_bundle_scores_what_the_network_scores(self, tmp_path, options, people, monkeypatch):
        monkeypatch.setattr(
            "edgeface.export.quantization.calibration.check_aligned", lambda *_: None
        )  # drawn clouds, no faces
        made = run(
            *("export", "--onnx", tmp_path / "n.onnx", *options, "--out", tmp_path / "b", "--calibration", people),
            *("--precision", "fp32", "--data", people, "--detector", "none", "--fmr", "0.1"),
            *("--fact", "author: A. Name", "--fact", "note: with a colon: here"),
        )
        assert made.exit_code == 0, made.output
        bundle = open_bundle(tmp_path / "b")
        assert bundle.manifest.precisions["fp32"].min_cosine > 0.99999
        card = bundle.read("MODEL_CARD.md").decode()
        assert "- author: A. Name\n- note: with a colon: here\n" in card
        assert "- output transform: t.npz: unit length, minus 0.8 of a mean, times a 5 x 3 matrix" in card
        assert "resampled by [[0.4, 0.0, 1.3], [0.0, 0.31, -2.2]]" in card
        scores = []
        for model in ([tmp_path / "n.onnx", *options], [tmp_path / "b"]):
            evaluated = run("eval", *model, "--data", people, "--json", "--bootstrap", "0")
            assert evaluated.exit_code == 0, evaluated.output
            scores.append({key: json.loads(evaluated.stdout)[key] for key in ("pairs", "accuracy", "auc", "tar")})
        assert scores[0] == scores[1]

    def test_mistakes_are_one_line(self, tmp_path, options, people):
        evaluate = ["eval", tmp_path / "n.onnx", "--data", people]
        fails("missing: --input-layout", *evaluate, *options[-4:])
        fails("matrix not found", *evaluate, *options[:8], "--input-affine", tmp_path / "none.npy")
        fails("is not a .npz file", *evaluate, *options[:10], "--output-transform", tmp_path / "m.npy")
        export = ["export", "--onnx", tmp_path / "n.onnx", *options, "--calibration", people, "--out", tmp_path / "o"]
        fails("'WHAT: TEXT', got 'no colon'", *export, "--fact", "no colon")
        fails("one line", *export, "--fact", "author: two\nlines")
        assert not (tmp_path / "o").exists()
