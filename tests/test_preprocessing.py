"""What foreign networks expect of a face: other sizes, single channels, and preprocessings by name."""

import json
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeface.commands.labelled import channels, pixels
from edgeface.errors import ConfigError, ExportError, UnknownNameError
from edgeface.export.cleaning import serialize
from edgeface.export.foreign import adapt
from edgeface.export.preprocessing import SIDES, Preprocessing
from edgeface.export.presets import PRESETS, Said, complete
from edgeface.export.resampling import Affine
from edgeface.export.sources import ForeignEmbedder
from edgeface.images import write_image
from edgeface.runtime.bundle import open_bundle
from edgeface.runtime.embedder import open_embedder
from tests.test_cli import fails, run
from tests.test_export import smooth_pictures

DIMENSION = 6


def theirs(height: int | str, width: int | str, layout: str = "nchw") -> onnx.ModelProto:
    """Every seventh pixel times fixed random numbers: any error in place, order or layout changes the answer."""
    shape = ["n", 3, height, width] if layout == "nchw" else ["n", height, width, 3]
    axes = [2, 3] if layout == "nchw" else [1, 2]
    rows, columns = (-(-side // 7) if isinstance(side, int) else 16 for side in (height, width))
    weights = np.random.default_rng(0).normal(0, 0.01, (3 * rows * columns, DIMENSION)).astype(np.float32)
    arrays: dict[str, npt.NDArray[Any]] = {
        "starts": np.zeros(2, np.int64),
        "ends": np.full(2, 10_000),
        "axes": np.array(axes),
        "steps": np.full(2, 7),
        "w": weights,
        "b": np.full(DIMENSION, 3.0, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["few"]),
            helper.make_node("Flatten", ["few"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w", "b"], ["y"]),
        ],
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", DIMENSION])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(model: onnx.ModelProto, pictures: list[npt.NDArray[np.float64]]):
    """What the network gives for pictures that are prepared by hand, (H, W, 3) each; by numpy alone."""
    w, b = (numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer[-2:])
    channels_first = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 3
    few = [picture[::7, ::7] for picture in pictures]
    rows = np.stack([(picture.transpose(2, 0, 1) if channels_first else picture).ravel() for picture in few])
    raw = rows @ w + b
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def by_hand(name: str, face: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.float64]:
    """As the code of each source prepares a face, with OpenCV and numpy."""
    picture = face.astype(np.float64)
    if (height, width) != face.shape[:2]:
        picture = cv2.resize(face.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR).astype(
            np.float64
        )
    red, green, blue = (picture[..., channel] for channel in range(3))
    if name == "arcface":
        return (picture / 255 - 0.5) / 0.5
    if name == "adaface":
        return (np.stack([blue, green, red], axis=-1) / 255 - 0.5) / 0.5
    if name == "facenet":
        return (picture - 127.5) / 128
    if name == "imagenet":
        return (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    if name == "vggface2":
        return np.stack([blue - 91.4953, green - 103.8827, red - 131.0912], axis=-1)
    assert name == "raw"
    return picture


@pytest.fixture(scope="module")
def faces():
    return smooth_pictures()[:4]


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_each_preprocessing_is_what_its_source_does(faces, name, layout, tmp_path):
    width, height = PRESETS[name].size_wh or (112, 96)
    model = theirs(height, width, layout)
    expected = answer(model, [by_hand(name, face, height, width) for face in faces])
    preprocessing = complete(Said(preset=name))
    made = open_embedder(serialize(adapt(model, preprocessing)), provider="cpu").embed(faces)
    np.testing.assert_allclose(made, expected, atol=2e-5)
    onnx.save(model, tmp_path / "n.onnx")
    outside = ForeignEmbedder(tmp_path / "n.onnx", preprocessing, provider="cpu")
    assert outside.preprocessing.layout == layout
    np.testing.assert_allclose(outside.embed(faces), expected, atol=2e-5)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (128, 128), (160, 160), (224, 224), (112, 96), (64, 200)])
def test_other_sizes_are_resized_as_opencv_does(faces, height, width):
    whole = Said(layout="nchw", channel_order="rgb", mean=(10.0, 20.0, 30.0), scale=(0.1, 0.02, 0.03))
    picture = [
        (cv2.resize(face.astype(np.float32), (width, height)) - [10.0, 20.0, 30.0]) * [0.1, 0.02, 0.03]
        for face in faces
    ]
    model = theirs(height, width)
    made = open_embedder(serialize(adapt(model, complete(whole))), provider="cpu").embed(faces)
    np.testing.assert_allclose(made, answer(model, picture), atol=2e-5)


def test_pixels_after_resizing_are_those_of_opencv_to_a_hundredth(faces):
    for wh in ((96, 96), (160, 112), (224, 224), (112, 112)):
        with_size = Preprocessing("nhwc", "rgb", 0.0, 1.0, size_wh=wh)
        made = with_size.apply(faces)
        for face, one in zip(faces, made, strict=True):
            np.testing.assert_allclose(one, cv2.resize(face.astype(np.float32), wh), atol=0.02)
    assert np.array_equal(made, faces)  # the crop itself is not touched


class TestSize:
    def fitted(self, shape: list[int | str], **options: Any) -> Preprocessing:
        said: dict[str, Any] = {"layout": "nchw", "channel_order": "rgb", "mean": 0.0, "scale": 1.0}
        return complete(Said(**(said | options))).fitted("x", shape)

    def test_the_shape_of_the_network_tells_and_that_is_said(self):
        fitted = self.fitted(["n", 3, 160, 120])
        assert fitted.size_wh == (120, 160)
        (remark,) = fitted.remarks
        assert "takes 160 x 120 pixels (height x width), so the crop of 112 x 112 is resized" in remark
        assert "resized to 160 x 120" in str(fitted)
        assert self.fitted([1, 3, 112, 112]).remarks == ()
        assert self.fitted(["n", 3, "h", "w"]).size_wh == (112, 112)

    def test_what_is_asked_fills_a_free_size_and_does_not_go_against_a_fixed_one(self):
        assert self.fitted(["n", 3, "h", "w"], size_wh=(128, 96)).size_wh == (128, 96)
        assert self.fitted(["n", 3, 96, "w"], size_wh=(128, 96)).size_wh == (128, 96)
        with pytest.raises(ExportError, match=r"takes 112 x any pixels .* --input-size says 96 x 128; leave it out"):
            self.fitted(["n", 3, 112, "w"], size_wh=(128, 96))
        with pytest.raises(ExportError, match=r"size is not known; say it with --input-size"):
            self.fitted(["n", 3, 96, "w"])
        affine = Affine(np.array([[1.2, 0, 3], [0, 1.2, 3]]))
        with pytest.raises(ExportError, match="leaves its size open"):
            self.fitted(["n", 3, "h", "w"], affine=affine)
        assert self.fitted(["n", 3, "h", "w"], affine=affine, size_wh=(150, 150)).size_wh == (150, 150)

    @pytest.mark.parametrize("wh", [(0, 112), (8, 8), (112, 5000)])
    def test_sizes_that_make_no_sense(self, wh):
        with pytest.raises(ExportError, match="16 to 1024 pixels a side"):
            self.fitted(["n", 3, "h", "w"], size_wh=wh)
        with pytest.raises(ExportError):
            self.fitted(["n", 3, wh[1] or 5, wh[0] or 5])

    def test_the_usual_size_of_a_name_is_taken_where_nothing_else_tells(self):
        preprocessing = complete(Said(preset="facenet"))
        assert preprocessing.fitted("x", ["n", 3, "h", "w"]).size_wh == (160, 160)
        assert preprocessing.fitted("x", ["n", 3, 160, 160]).remarks == ()
        assert preprocessing.fitted("x", ["n", 3, 112, 112]).size_wh == (112, 112)
        assert "takes 96 x 96" in preprocessing.fitted("x", ["n", 96, 96, 3]).remarks[0]

    def test_the_layout_is_taken_from_the_shape_only_where_that_is_certain(self):
        preprocessing = complete(Said(preset="arcface"))
        assert preprocessing.fitted("x", ["n", 112, 112, 3]).layout == "nhwc"
        shapes: list[list[int | str]] = [["n", "c", 112, 112], [1, 3, 112, 3], ["n", 3, 112]]
        for shape in shapes:
            with pytest.raises(ExportError, match="does not tell its layout; give --input-layout"):
                preprocessing.fitted("x", shape)


class TestSaid:
    def test_single_values_go_before_the_name_and_are_told(self):
        made = complete(Said(preset="imagenet", channel_order="bgr", mean=0.0, size_wh=(112, 112)))
        assert (made.channel_order, made.mean, made.scale) == ("bgr", 0.0, PRESETS["imagenet"].scale)
        assert made.remarks == (
            "--preprocessing imagenet, but with --channel-order bgr instead of rgb, --mean 0 instead of "
            "[123.675, 116.28, 103.53], --input-size 112 x 112 instead of 224 x 224",
        )
        same = complete(Said(preset="arcface", channel_order="rgb", mean=(127.5, 127.5, 127.5), scale=1 / 127.5))
        assert "instead of 127.5" in same.remarks[0] or same.remarks == ()
        assert complete(Said(preset="arcface", scale=1 / 127.5)).remarks == ()

    def test_without_a_name_nothing_is_guessed(self):
        with pytest.raises(ConfigError, match=r"missing: --input-layout, --mean; or name it: --preprocessing adaface"):
            complete(Said(channel_order="rgb", scale=1.0))
        with pytest.raises(UnknownNameError, match="unknown preprocessing 'dlib'; choose one of: adaface, arcface"):
            complete(Said(preset="dlib"))

    @pytest.mark.parametrize(
        ("mean", "scale"), [((1.0, float("nan"), 0.0), 1.0), (0.0, (1.0, 0.0, 1.0)), (1e300, 1.0), (0.0, 1e-60)]
    )
    def test_values_that_make_no_sense(self, mean, scale):
        with pytest.raises(ExportError, match="must be finite and --scale not zero"):
            Preprocessing("nchw", "rgb", mean, scale)

    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5), st.text(max_size=12))
    def test_numbers_are_read_or_refused(self, numbers, text):
        joined = ",".join(map(repr, numbers))
        if len(numbers) in (1, 3):
            assert channels("--mean", joined) == (numbers[0] if len(numbers) == 1 else tuple(numbers))
        else:
            with pytest.raises(ConfigError, match="one number, or three"):
                channels("--mean", joined)
        for read in (lambda: channels("--mean", text), lambda: pixels(text)):
            try:
                read()
            except ConfigError as error:
                assert "such as" in str(error)

    @given(st.integers(0, 99_999), st.integers(0, 99_999))
    def test_sizes_are_read_as_height_and_width(self, height, width):
        assert pixels(f"{height}x{width}") == pixels(f"{height}X{width}") == (width, height)
        assert pixels(str(height)) == (height, height)
        for wrong in (f"{height}x{width}x1", f"-{height + 1}", f"{height}.5", "", "x", f"{height}x"):
            with pytest.raises(ConfigError, match="N or HEIGHTxWIDTH"):
                pixels(wrong)
        assert SIDES[0] > 0


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(3)
    for index, picture in enumerate(smooth_pictures()[:40]):
        noisy = np.clip(picture + rng.normal(0, 9, picture.shape), 0, 255).astype(np.uint8)
        write_image(folder / f"person {index % 10}" / f"{index}.png", noisy)
    return folder


def test_the_commands_take_it_and_the_card_says_it(tmp_path, people, monkeypatch):
    monkeypatch.setattr("edgeface.export.quantization.calibration.check_aligned", lambda *_: None)  # no faces
    onnx.save(theirs(160, 96), tmp_path / "n.onnx")
    options = ["--preprocessing", "imagenet", "--scale", "0.017,0.018,0.019"]
    made = run(
        *("export", "--onnx", tmp_path / "n.onnx", *options, "--out", tmp_path / "b", "--calibration", people),
        *("--precision", "fp32", "--detector", "none", "--fmr", "0.1", "--calibration-images", "16"),
    )
    assert made.exit_code == 0, made.output
    assert "the network takes 160 x 96 pixels (height x width)" in made.stderr
    assert "--preprocessing imagenet, but with --scale [0.017, 0.018, 0.019] instead of" in made.stderr
    bundle = open_bundle(tmp_path / "b")
    said = "nchw rgb, resized to 160 x 96, (pixel - [123.675, 116.28, 103.53]) * [0.017, 0.018, 0.019]"
    assert bundle.manifest.origin["preprocessing"] == said
    assert said in bundle.read("MODEL_CARD.md").decode()
    scores = []
    for model in ([tmp_path / "n.onnx", *options], [tmp_path / "b"]):
        evaluated = run("eval", *model, "--data", people, "--json", "--bootstrap", "0")
        assert evaluated.exit_code == 0, evaluated.output
        scores.append({key: json.loads(evaluated.stdout)[key] for key in ("pairs", "accuracy", "auc")})
    assert scores[0] == scores[1]
    evaluate = ["eval", tmp_path / "n.onnx", "--data", people]
    fails("--input-size says 112 x 112; leave it out", *evaluate, *options, "--input-size", "112")
    fails("takes one number, or three with commas", *evaluate, "--preprocessing", "raw", "--mean", "1,2")
    fails("choose one of: adaface, arcface", *evaluate, "--preprocessing", "face")
    fails("--input-layout is nchw or nhwc", *evaluate, "--preprocessing", "raw", "--input-layout", "hwc")
